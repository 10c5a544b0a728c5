"""A bundle held against its method, and at work: no answer comes from one that does not fit."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.engine import memory
from cacheclip.engine.stack import logits_in_parts
from cacheclip.errors import InputError
from cacheclip.files.typed import fits
from cacheclip.methods import base as methods
from cacheclip.methods.base import Method, Value
from cacheclip.store.schema import IMPORTED
from cacheclip.store.source import AUX
from cacheclip.task import Query

WIDEST = 2**20  # numbers of a feature
LONGEST = 255  # bytes of a name, as of a file's
ENCODER: Mapping[str, Any] = {
    "library": str,
    "name": str,
    "pretrained": str | None,
    "weights_sha256": str,
    "quickgelu": bool | None,
    "embed_dim": Annotated[int, "numbers of a feature", (1, WIDEST)],
}
PREPROCESS: Mapping[str, Any] = {
    "size": Annotated[list[int], "height, width", (1, 2**14)],
    "mean": list[float],
    "std": Annotated[list[float], "of each channel", (1e-6, 1e6)],
    "mode": Literal["RGB"],
    "interpolation": Literal["bicubic", "bilinear", "random"],
    "resize_mode": Literal["shortest", "longest", "squash"],
    "fill_color": int | list[int],
    "antialias": bool,
    "exif": bool,
    "white_level": Annotated[int | None, "level", (1, 2**32)],
}
LENGTHS = {"size": 2, "mean": 3, "std": 3}
# What torch raises on tensors that do not go together; it promises no list.
MISFITS = (AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


Top = tuple[tuple[str, float], ...]  # classes by falling probability


class Classifier:
    """A bundle's method and head.

    Raises:
        InputError: this version of cacheclip has another version of the method, or the bundle holds
            what its method cannot have made.
        UsageError: there is no such method.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        found = methods.get(bundle.method)
        if found.version != bundle.method_version:
            raise InputError(
                f"the bundle holds version {bundle.method_version} of {bundle.method}, and this "
                f"cacheclip has version {found.version}",
                where="the bundle",
                fix="run `cacheclip fit` again",
            )
        if wrong := _wrong_fields(bundle, found):
            raise _unfit(bundle, wrong)
        self.method = found(**bundle.static)
        self.params = {name: torch.from_numpy(x)[None] for name, x in bundle.head.items()}
        self._try()

    def logits(self, query: Query) -> Tensor:
        """Class scores [B, C] of pictures.

        Raises:
            InputError: the head does not fit the pictures or the class names.
        """
        try:
            logits = self._logits(query)
        except MISFITS as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise _unfit(self.bundle, f"its head: {why:.200}") from None
        if logits.shape != (1, len(query), len(self.bundle.classnames)):
            n = logits.shape[-1] if logits.ndim else 0
            raise _unfit(
                self.bundle,
                f"{len(self.bundle.classnames)} class names for {n} classes of its head",
            )
        if not all(bound.isfinite() for bound in logits.aminmax()):  # which pass a NaN on
            raise _unfit(self.bundle, "its head: its answers are not finite")
        return logits[0]

    def _logits(self, query: Query) -> Tensor:
        """[1, B, C]; through a tower go as many pictures at once as memory holds."""
        if not self.method.reads.query_encoder:
            with torch.no_grad():
                return self.method.logits(self.params, query)
        limit = memory.default_limit(torch.device("cpu"))
        parts = logits_in_parts(self.method, self.params, query, limit)
        return torch.cat([logits for _, _, logits in parts], 1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """What logits [B, C] are worth at the bundle's temperature: [B, C]."""
        return (logits / self.bundle.temperature).softmax(-1)

    def ranked(self, query: Query, top_k: int, *, raw: bool = False) -> list[Top]:
        """The likeliest classes of each picture, at most `top_k`.

        Args:
            query: the layers that the method reads.
            top_k: how many classes are named.
            raw: give the method's scores in place of probabilities.

        Raises:
            InputError: the head does not fit the pictures or the class names.
        """
        return self.named(self.logits(query), top_k, raw=raw)

    def named(self, logits: Tensor, top_k: int, *, raw: bool = False) -> list[Top]:
        """The likeliest classes by logits [B, C]; see `ranked`."""
        classes = logits.topk(min(top_k, logits.shape[-1])).indices  # [B, k]
        values = (logits if raw else self.probabilities(logits)).gather(-1, classes)  # [B, k]
        names = self.bundle.classnames
        return [
            tuple((names[c], value) for c, value in zip(*row, strict=True))
            for row in zip(classes.tolist(), values.tolist(), strict=True)
        ]

    def _try(self) -> None:
        """Answer for a picture that is none, where it is known what the encoders would give."""
        known = _plain(self.bundle.encoder["embed_dim"])
        if second := self.bundle.second:
            known |= {AUX + name: x for name, x in _plain(second.encoder["embed_dim"]).items()}
        if set(self.bundle.layers) <= set(known) and not self.method.reads.query_encoder:
            self.logits(Query({name: known[name] for name in self.bundle.layers}))


def _wrong_fields(bundle: Bundle, method: type[Method]) -> str | None:
    """What of a bundle is not as its method and an encoder leave it."""
    for name, value in bundle.static.items():
        if not _possible(method, name, value):
            return f"static setting {name} = {value!r:.50}"
    layers = method(**bundle.static).reads.query
    if bundle.layers != list(layers):
        return f"layers {', '.join(bundle.layers)}, and the method reads {', '.join(layers)}"
    if wrong := _wrong_aux(bundle):
        return wrong
    every = (bundle, bundle.second) if bundle.second else (bundle,)
    found = (_wrong_encoder(own.encoder) or _wrong_preprocess(own.preprocess) for own in every)
    return next(filter(None, found), None)


def _plain(width: int) -> dict[str, Tensor]:
    """The layers of a picture that is none, of an encoder of that width."""
    return {"image": torch.full((1, width), width**-0.5), "image-norm": torch.ones(1, 1)}


def _wrong_aux(bundle: Bundle) -> str | None:
    """What of a second encoder is not as the method's layers ask for it."""
    reads = any(layer.startswith(AUX) for layer in bundle.layers)
    if reads != (bundle.aux is not None):
        return "a second encoder, which its method does not read" if bundle.aux else "one encoder"
    good = bundle.aux is None or (
        bundle.aux.keys() == {"encoder", "preprocess"}
        and all(isinstance(block, dict) for block in bundle.aux.values())
    )
    return None if good else "a second encoder without its blocks"


def _wrong_encoder(encoder: Mapping[str, Any]) -> str | None:
    for name, kind in ENCODER.items():
        if not fits(encoder.get(name), kind):
            return f"encoder without a good {name}"
    texts = [encoder[name] for name in ENCODER if isinstance(encoder[name], str)]
    if not all(text.isprintable() and len(text.encode()) <= LONGEST for text in texts):
        return "encoder with a name that is none"
    if encoder["library"] not in (IMPORTED, "open_clip"):
        return f"encoder of a library {encoder['library']!r:.50}"
    return None


def _wrong_preprocess(preprocess: Mapping[str, Any]) -> str | None:
    for name, value in preprocess.items():
        good = fits(value, PREPROCESS.get(name, Any))
        if not good or (name in LENGTHS and len(value) != LENGTHS[name]):
            return f"preprocessing with {name} = {value!r:.50}"
    return None


def _possible(method: type[Method], name: str, value: Value) -> bool:
    """Whether a static setting may have a value."""
    own = method.table.get(name)
    return own is not None and own.allows(value) and (own.static or isinstance(value, str))


def _unfit(bundle: Bundle, what: str) -> InputError:
    return InputError(
        f"the bundle is not one that {bundle.method} has left: {what}",
        where="the bundle",
        fix="copy it again from where it came from, or run `cacheclip fit` again",
    )
