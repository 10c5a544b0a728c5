"""A bundle and pictures to answers, through the encoder that the bundle names and no other."""

import csv
import io
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.datasets.images import ImageError, Reading, using_rgb
from cacheclip.encoders.base import LOCAL_DIR, Encoder, EncoderSpec, load
from cacheclip.errors import InputError, MachineError, StoreError
from cacheclip.metrics import wilson
from cacheclip.store.schema import IMPORTED
from cacheclip.task import Query, unit

BATCH = 32
PROBABILITY, SCORE = "probability", "score"
OWN = ("folder", "csv")  # the families of data sets that are the user's pictures
READ = ("exif", "white_level")  # of the preprocess block: see `Reading`
NAMED = 8  # classes in a line before it says how many more there are

Top = tuple[tuple[str, float], ...]  # classes by falling probability


@dataclass(frozen=True)
class Answer:
    """What a picture shows, or why it could not be read.

    Attributes:
        image: its path as it was found.
        top: classes by falling probability, with that or with their scores; empty on an error.
        error: why there is no answer.
        label: the class whose name its folder has, None where it has no class's.
    """

    image: str
    top: Top
    error: str | None = None
    label: str | None = None

    def as_json(self, value: str = PROBABILITY, *, labelled: bool = False) -> dict[str, Any]:
        """The answer as `--json` prints it; a picture without an answer has the same fields.

        Args:
            value: what stands beside the classes, "probability" or "score".
            labelled: whether there is a label to name, of this picture or of another.
        """
        best = self.top[0] if self.top else (None, None)
        ranked = [{"class": name, value: number} for name, number in self.top]
        fields = {"image": self.image, "class": best[0], value: best[1]}
        label = {"label": self.label} if labelled else {}
        return fields | {"top": ranked, "error": self.error} | label


def label_of(folders: Sequence[str], classnames: Sequence[str]) -> str | None:
    """The class that a picture's folders name, the outermost that does; None where none does.

    Args:
        folders: from the outermost to the picture's own.
        classnames: a name may be a path of folders, "tools/saw".
    """
    names = {unicodedata.normalize("NFC", name): name for name in classnames}
    parts = [unicodedata.normalize("NFC", folder) for folder in folders]
    for first in range(len(parts)):
        for last in range(len(parts), first, -1):
            name = names.get("/".join(parts[first:last]))
            if name is not None:
                return name
    return None


def accuracy(answers: Sequence[Answer]) -> Iterator[str]:
    """Lines on how many pictures lie in the folder of their class; none where no folder is one."""
    known = [(answer.label, answer.top[0][0]) for answer in answers if answer.label and answer.top]
    if not known:
        return
    pictures = Counter(label for label, _ in known)
    right = Counter(label for label, name in known if name == label)
    n = len(known)
    share = right.total() / n
    low, high = wilson(share, n)
    outside = sum(answer.label is None for answer in answers)
    yield (
        f"accuracy {100 * share:.1f} % of {n:,} pictures in folders named like classes, 95 % "
        f"interval {100 * low:.1f} to {100 * high:.1f}"
        + (f"; {outside:,} in no such folder" if outside else "")
        + "; no test of pictures that it learned from"
    )
    if len(pictures) > 1:
        worst = sorted(pictures, key=lambda name: right[name] / pictures[name])
        listed = [f"{name} {right[name]} of {pictures[name]}" for name in worst[:NAMED]]
        more = len(worst) - NAMED
        yield f"recall, least first: {', '.join(listed)}{f', {more} more' if more > 0 else ''}"


def as_table(
    answers: Sequence[Answer], value: str = PROBABILITY
) -> tuple[list[str], list[list[str]]]:
    """The answers as people read them: what was found first, and where."""
    cells = []
    for answer in answers:
        if answer.top:
            (name, number), *rest = answer.top
            then = ", ".join(f"{other} {p:.3f}" for other, p in rest)
            cells.append([name, f"{number:.3f}", answer.image, then])
        else:
            cells.append(["-", "-", answer.image, answer.error or ""])
    return ["class", value, "image", "then"], cells


def as_csv(answers: Sequence[Answer], value: str = PROBABILITY) -> str:
    """The answers as a table with commas: image, class and value, the runners-up, label, error."""
    ranks = range(2, 1 + max((len(answer.top) for answer in answers), default=1))
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    behind = [name for k in ranks for name in (f"class_{k}", f"{value}_{k}")]
    write(["image", "class", value, *behind, "label", "error"])
    for answer in answers:
        ranked = [part for pair in answer.top for part in pair]
        empty = [""] * (2 + len(behind) - len(ranked))
        write([answer.image, *ranked, *empty, answer.label or "", answer.error or ""])
    return text.getvalue()


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
    wanted = bundle.encoder
    if wanted["library"] == IMPORTED:
        raise InputError(
            "this bundle was fitted on imported features, and no encoder is known that makes them",
            where=f"data set {bundle.provenance.get('dataset')}, features {wanted['pretrained']}",
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
        ),
        fetch=fetch,
    )
    differing = [
        f"{name} {wanted[name]!s:.20} != {encoder.identity[name]!s:.20}"
        for name in ("weights_sha256", "quickgelu")
        if encoder.identity[name] != wanted[name]
    ]
    # How files are read is the bundle's to say; the encoder's share is what follows.
    read = {name: bundle.preprocess[name] for name in READ if name in bundle.preprocess}
    if {**encoder.preprocess, **read} != bundle.preprocess:
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
) -> Iterator[Answer]:
    """Answers in the order of the images; a picture that cannot be read gets an error.

    Args:
        bundle: the classifier.
        encoder: the one that the bundle names.
        images: files.
        top_k: how many classes an answer names.
        raw: give the method's scores in place of probabilities.

    Raises:
        InputError: the bundle does not fit its method, or that is of another version here.
    """
    classifier = Classifier(bundle)
    reading = reading_of(bundle)
    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        pixels: dict[int, Tensor] = {}
        errors: dict[int, str] = {}
        for k, path in enumerate(part):
            try:
                pixels[k] = using_rgb(path, encoder.transform, reading)
            except ImageError as error:
                errors[k] = str(error)
        answers: dict[int, Top] = {}
        if pixels:
            query = _query(bundle, encoder, torch.stack(list(pixels.values())))
            tops = _ranked(bundle, classifier.logits(query), top_k, raw=raw)
            answers = dict(zip(pixels, tops, strict=True))
        for k, path in enumerate(part):
            yield Answer(str(path), answers.get(k, ()), errors.get(k))


def probabilities(bundle: Bundle, logits: Tensor) -> Tensor:
    """What a bundle's logits [B, C] are worth: one probability a class, [B, C]."""
    return (logits / bundle.temperature).softmax(-1)


def _query(bundle: Bundle, encoder: Encoder, pixels: Tensor) -> Query:
    """The layers that the bundle's method reads, of pixels [B, 3, H, W]."""
    layers = {name: torch.from_numpy(x) for name, x in encoder.encode_images(pixels).items()}
    layers["image-norm"] = layers["image"].norm(dim=-1, keepdim=True)
    layers["image"] = unit(layers["image"])
    return Query({name: layers[name] for name in bundle.layers})


def _ranked(bundle: Bundle, logits: Tensor, top_k: int, *, raw: bool) -> list[Top]:
    """The likeliest classes of each row of logits [B, C]."""
    classes = logits.topk(min(top_k, logits.shape[-1])).indices
    values = (logits if raw else probabilities(bundle, logits)).gather(-1, classes)
    return [
        tuple((bundle.classnames[c], value) for c, value in zip(*row, strict=True))
        for row in zip(classes.tolist(), values.tolist(), strict=True)
    ]
