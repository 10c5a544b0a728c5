"""A bundle and pictures to answers, through the encoder that the bundle names and no other."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.datasets.folder import EXTENSIONS
from cacheclip.datasets.images import ImageError, read_rgb
from cacheclip.encoders.base import LOCAL_DIR, Encoder, EncoderSpec, load
from cacheclip.errors import InputError, MachineError, StoreError
from cacheclip.methods import base as methods
from cacheclip.methods.base import Method
from cacheclip.store.schema import IMPORTED
from cacheclip.task import Query, unit

BATCH = 32

Top = tuple[tuple[str, float], ...]  # classes by falling probability


@dataclass(frozen=True)
class Answer:
    """What a picture shows: classes by falling probability, or why it could not be read."""

    image: str
    top: Top
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The answer as `--json` prints it."""
        best = {"class": self.top[0][0], "probability": self.top[0][1]} if self.top else {}
        ranked = [{"class": name, "probability": p} for name, p in self.top]
        return {"image": self.image} | best | {"top": ranked, "error": self.error}


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files given, and the pictures below the folders given, in order.

    Raises:
        InputError: a path does not exist, or there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in EXTENSIONS)
            found += [p for p in below if p.is_file() and not _hidden(p.relative_to(path))]
        elif path.is_file():
            found.append(path)
        else:
            raise InputError("there is no such picture", where=str(path), fix="check the path")
    if not found:
        raise InputError(
            "no picture found",
            where=", ".join(map(str, paths)),
            fix=f"pictures end in {' '.join(sorted(EXTENSIONS))}",
        )
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def open_encoder(
    bundle: Bundle, model: str | None = None, pretrained: str | None = None
) -> Encoder:
    """The encoder that the bundle names.

    Args:
        bundle: names model, weights and preprocessing.
        model: where a model that is a folder lies now, `local-dir:PATH`.
        pretrained: where weights that are a file lie now.

    Raises:
        InputError: the bundle's features were imported, so there is no encoder.
        StoreError: the encoder found is not the one that made the bundle's features.
        MachineError: its weights file is not where it was said to be.
    """
    wanted = bundle.encoder
    if wanted["library"] == IMPORTED:
        raise InputError(
            "this bundle was fitted on imported features, and no encoder is known that makes them",
            where=f"data set {bundle.provenance['dataset']}, features {wanted['pretrained']}",
            fix="encode pictures here and fit again: cacheclip extract --dataset FOLDER",
        )
    if model is not None and model != wanted["name"] and not _same_folder(model, wanted["name"]):
        raise _another_encoder(wanted, f"--model {model}")
    weights = pretrained if model or pretrained else wanted["pretrained"]
    from_file = weights is not None and Path(weights).is_file()
    if weights is not None and Path(weights).suffix and not from_file:
        raise MachineError(
            f"this bundle needs the weights file {Path(wanted['pretrained']).name!r}",
            where=f"encoder {wanted['name']}, no such file: {weights}",
            fix=f"add --pretrained PATH/TO/{shlex.quote(wanted['pretrained'])}",
        )
    encoder = load(
        EncoderSpec(
            model=model or wanted["name"],
            pretrained=weights,
            preprocess_from=bundle.preprocess if from_file else None,
        )
    )
    differing = [
        f"{name} {wanted[name]!s:.20} != {encoder.identity[name]!s:.20}"
        for name in ("weights_sha256", "quickgelu")
        if encoder.identity[name] != wanted[name]
    ]
    if dict(encoder.preprocess) != bundle.preprocess:
        differing.append("preprocessing")
    if differing:
        raise _another_encoder(wanted, "; ".join(differing))
    return encoder


def _same_folder(model: str, wanted: str) -> bool:
    """Whether a `local-dir:PATH` may be the `local-dir:NAME` of a bundle, wherever it lies now."""
    return model.startswith(LOCAL_DIR) and wanted.startswith(LOCAL_DIR)


def _another_encoder(wanted: Mapping[str, Any], difference: str) -> StoreError:
    return StoreError(
        "this encoder did not make the features that the bundle was fitted on",
        where=f"the bundle has {wanted['name']}@{wanted['pretrained']}; {difference}",
        fix="leave --model and --pretrained out, or give the very weights that were used",
    )


def predict(
    bundle: Bundle, encoder: Encoder, images: Sequence[Path], top_k: int
) -> Iterator[Answer]:
    """Answers in the order of the images; a picture that cannot be read gets an error.

    Raises:
        InputError: this version of cacheclip has another version of the bundle's method.
    """
    method = _method(bundle)
    params = {name: torch.from_numpy(x)[None] for name, x in bundle.head.items()}
    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        pixels: dict[int, Tensor] = {}
        errors: dict[int, str] = {}
        for k, path in enumerate(part):
            try:
                pixels[k] = encoder.transform(read_rgb(path))
            except ImageError as error:
                errors[k] = str(error)
        answers: dict[int, Top] = {}
        if pixels:
            query = _query(bundle, encoder, torch.stack(list(pixels.values())))
            tops = _ranked(bundle, method.logits(params, query)[0], top_k)
            answers = dict(zip(pixels, tops, strict=True))
        for k, path in enumerate(part):
            yield Answer(str(path), answers.get(k, ()), errors.get(k))


def _method(bundle: Bundle) -> Method:
    """The method that reads the bundle's head.

    Raises:
        InputError: this version of cacheclip has another version of the method.
    """
    found = methods.get(bundle.method)
    if found.version != bundle.method_version:
        raise InputError(
            f"the bundle holds version {bundle.method_version} of {bundle.method}, and this "
            f"cacheclip has version {found.version}",
            where="the bundle",
            fix="run `cacheclip fit` again",
        )
    return found(**bundle.static)


def _query(bundle: Bundle, encoder: Encoder, pixels: Tensor) -> Query:
    """The layers that the bundle's method reads, of pixels [B, 3, H, W]."""
    layers = {name: torch.from_numpy(x) for name, x in encoder.encode_images(pixels).items()}
    layers["image-norm"] = layers["image"].norm(dim=-1, keepdim=True)
    layers["image"] = unit(layers["image"])
    return Query({name: layers[name] for name in bundle.layers})


def _ranked(bundle: Bundle, logits: Tensor, top_k: int) -> list[Top]:
    """The likeliest classes of each row of logits [B, C]."""
    p, classes = logits.softmax(-1).topk(min(top_k, logits.shape[-1]))
    return [
        tuple((bundle.classnames[c], value) for c, value in zip(*row, strict=True))
        for row in zip(classes.tolist(), p.tolist(), strict=True)
    ]
