"""A bundle and pictures to answers, through the encoder that the bundle names and no other."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier, Top
from cacheclip.datasets.images import ImageError, Reading, using_rgb
from cacheclip.encoders.base import LOCAL_DIR, Encoder, EncoderSpec, load
from cacheclip.errors import InputError, MachineError
from cacheclip.extraction.passes import ViewsPass
from cacheclip.inference.answer import Answer
from cacheclip.inference.identity import other_encoder, refuse_other
from cacheclip.store.features import VIEWS
from cacheclip.store.schema import IMPORTED, PATCHES
from cacheclip.store.source import AUX
from cacheclip.task import Query, image_layers, unit

if TYPE_CHECKING:
    from PIL import Image

BATCH = 32
CROPS = "image" + VIEWS  # the layer of a picture's views
OWN = ("folder", "csv")  # the families of data sets that are the user's pictures
CACHED = "classify what both have encoded: cacheclip predict BUNDLE --on SET"
OTHER = "leave --model and --pretrained out, or give the very weights that were used"


def open_encoder(
    bundle: Bundle, model: str | None = None, pretrained: str | None = None, *, fetch: bool = False
) -> Encoder:
    """The encoder that the bundle names.

    Args:
        bundle: names model, weights and preprocessing.
        model: where a model that is a folder lies now, `local-dir:PATH`.
        pretrained: where weights that are a file lie now.
        fetch: whether a model of the hub that the bundle names may be fetched: anybody may have
            written the bundle, and anybody the model.

    Raises:
        InputError: the bundle's features were imported, so there is no encoder; or the bundle does
            not fit its method.
        StoreError: the encoder found is not the one that made the bundle's features.
        MachineError: its weights file is not where it was said to be, or the model is not on this
            machine.
    """
    Classifier(bundle)
    return _open(bundle, model, pretrained, OTHER, fetch=fetch)


def open_second(bundle: Bundle, *, fetch: bool = False) -> Encoder | None:
    """The second encoder that the bundle names, None where it reads one alone; see `open_encoder`.

    Raises:
        InputError: its features were imported, or its weights are a file that is not here.
        StoreError: the encoder found is another one.
        MachineError: the model is not on this machine.
    """
    second = bundle.second
    return None if second is None else _open(second, None, None, CACHED, fetch=fetch)


def _open(
    bundle: Bundle, model: str | None, pretrained: str | None, other: str, *, fetch: bool
) -> Encoder:
    """The encoder of a bundle that reads one alone; `other` is what to do about another one."""
    wanted = bundle.encoder
    if wanted["library"] == IMPORTED:
        raise InputError(
            "this bundle was fitted on imported features, and no encoder is known that makes them",
            where=f"data set {bundle.provenance.get('dataset')}, features {wanted['pretrained']}",
            fix="classify features: cacheclip predict BUNDLE --features FILE.npz; or encode "
            "pictures here and fit again: cacheclip extract --dataset FOLDER",
        )
    if model is not None and model != wanted["name"] and not _same_folder(model, wanted["name"]):
        raise other_encoder(bundle, f"--model {model}", fix=other)
    weights = pretrained if model or pretrained else wanted["pretrained"]
    from_file = weights is not None and Path(weights).is_file()
    if weights is not None and Path(weights).suffix and not from_file:
        raise MachineError(
            f"this bundle needs the weights file {Path(wanted['pretrained']).name!r}",
            where=f"encoder {wanted['name']}, no such file: {weights}",
            fix=CACHED
            if other == CACHED
            else f"add --pretrained PATH/TO/{shlex.quote(wanted['pretrained'])}",
        )
    encoder = load(
        EncoderSpec(
            model=model or wanted["name"],
            pretrained=weights,
            preprocess_from=bundle.preprocess if from_file else None,
        ),
        fetch=fetch,
    )
    refuse_other(bundle, encoder.identity, encoder.preprocess, fix=other)
    return encoder


def _same_folder(model: str, wanted: str) -> bool:
    """Whether a `local-dir:PATH` may be the `local-dir:NAME` of a bundle, wherever it lies now."""
    return model.startswith(LOCAL_DIR) and wanted.startswith(LOCAL_DIR)


def reading_of(bundle: Bundle) -> Reading:
    """How pictures are read for a bundle: upright, unless its own folder was taken as stored."""
    own = str(bundle.provenance.get("dataset")).partition("/")[0] in OWN
    as_stored = own and not bundle.preprocess.get("exif")
    return Reading(upright=not as_stored, white_level=bundle.preprocess.get("white_level"))


def predict(
    bundle: Bundle,
    encoder: Encoder,
    images: Sequence[Path],
    top_k: int,
    *,
    raw: bool = False,
    second: Encoder | None = None,
) -> Iterator[Answer]:
    """Answers in the order of the images; a picture that cannot be read gets an error.

    Args:
        bundle: the classifier.
        encoder: the one that the bundle names.
        images: files.
        top_k: how many classes an answer names.
        raw: give the method's scores in place of probabilities.
        second: the second one that it names, if it does.

    Raises:
        InputError: the bundle does not fit its method, or that is of another version here.
    """
    classifier = Classifier(bundle)
    frozen = _frozen(encoder, classifier.method.reads.query_encoder)
    reading = reading_of(bundle)
    encoders = {"": encoder} if second is None else {"": encoder, AUX: second}
    views = ViewsPass(encoder, classifier.method.views, ()) if CROPS in bundle.layers else None

    def transformed(picture: "Image.Image") -> tuple[Tensor, ...]:
        return tuple(own.transform(picture) for own in encoders.values())

    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        pixels: dict[int, tuple[Tensor, ...]] = {}
        errors: dict[int, str] = {}
        for k, path in enumerate(part):
            try:
                pixels[k] = using_rgb(path, transformed, reading)
            except ImageError as error:
                errors[k] = str(error)
        answers: dict[int, Top] = {}
        if pixels:
            layers: dict[str, Tensor] = {}
            of_each = zip(*pixels.values(), strict=True)
            for (mark, own), x in zip(encoders.items(), of_each, strict=True):
                layers |= _layers(bundle, own, torch.stack(x), mark)
            if views is not None:
                crops = [_crops(views, part[k], reading) for k in pixels]
                layers[CROPS] = torch.stack(crops)
            query = Query(layers, frozen)
            tops = classifier.ranked(query, top_k, raw=raw)
            answers = dict(zip(pixels, tops, strict=True))
        for k, path in enumerate(part):
            yield Answer(str(path), answers.get(k, ()), errors.get(k))


def _layers(bundle: Bundle, encoder: Encoder, pixels: Tensor, mark: str) -> dict[str, Tensor]:
    """The layers of an encoder that the bundle's method reads, of pixels [B, 3, H, W].

    `mark` stands before the names of a second encoder's.
    """
    layers = {name: torch.from_numpy(x) for name, x in encoder.encode_images(pixels).items()}
    layers |= image_layers(layers["image"])
    if PATCHES in bundle.layers and (parts := encoder.encode_patches(pixels)) is not None:
        layers[PATCHES] = torch.from_numpy(parts)
    marked = {mark + name: x for name, x in layers.items()}
    return {name: marked[name] for name in bundle.layers if name in marked}


def _crops(views: ViewsPass, path: Path, reading: Reading) -> Tensor:
    """Unit features [W, D] of the views of a picture, which its path decides."""
    pixels = using_rgb(path, lambda picture: views.pixels(picture, str(path)), reading)
    features = torch.from_numpy(views.encode(pixels[None])["image"])
    return unit(features.view(len(pixels), -1))


def _frozen(encoder: Encoder, names: Sequence[str]) -> dict[str, Any]:
    """The parts of the encoder that answers take, as `Query.encoder` has them."""
    arrays = {"tower": encoder.text_tower() or {}} if "tower" in names else {}
    return {
        name: {own: torch.from_numpy(x) for own, x in part.items()} for name, part in arrays.items()
    }
