"""Features that somebody else computed, as plain arrays, checked whole before any is written."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.draws import Draws, given_draws, is_draw
from cacheclip.exchange.labels import absent_classes, class_count, labelled, refuse_absent
from cacheclip.exchange.parts import joined, refuse_missing
from cacheclip.exchange.source import KNOWN, Given, Source, some
from cacheclip.exchange.split import splits
from cacheclip.store.schema import SPLITS

PLAIN_SCALE = 100.0  # without text it moves probabilities alone, never an answer
SCALES = (10.0, 200.0)  # of CLIP models: what is below may be the log of a scale, or one over it
NORMS = (1e-12, 1e12)  # whose squares float32 can sum
BLOCK = 2048  # rows looked at together
SQUARES = 2**22  # of their numbers, in memory at once


@dataclass(frozen=True)
class Arrays:
    """Checked arrays: every row is finite and has a length, a label, a split and an id of its own.

    Attributes:
        features: [N, D] float16 where that was given, else float32.
        labels: [N] int64, each in 0..C-1.
        split: [N] texts of `SPLITS`; test is not empty unless nothing is to be tested, train has
            every class or there is text.
        ids: [N] texts, each once in its split.
        classnames: [C], each once.
        per_prompt: [C, T, D] float16 or float32; None where there is no text.
        logit_scale: exp of CLIP's parameter.
        draws: (seed, shots) -> rows, all of split train.
        notices: one line each, for the user.
        sentences: [C, S, D] float16 or float32, zeros behind the last of a class that has fewer;
            None where there are none.
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]
    split: NDArray[np.str_]
    ids: list[str]
    classnames: list[str]
    per_prompt: NDArray[Any] | None
    logit_scale: float
    draws: Draws
    notices: tuple[str, ...]
    sentences: NDArray[Any] | None = None

    def rows(self) -> dict[str, NDArray[np.intp]]:
        """Split -> its rows [n] in file order, the splits that have any."""
        found = {name: np.flatnonzero(self.split == name) for name in SPLITS}
        return {name: rows for name, rows in found.items() if len(rows)}


def checked(
    given: Given, source: Source, logit_scale: float | None = None, *, tests: bool = True
) -> Arrays:
    """The arrays by name, checked.

    Args:
        given: name -> array, as `source.KNOWN` describes them or split by split; others are left
            out with a notice.
        source: where they come from.
        logit_scale: what the command line says that it is.
        tests: whether there must be rows of split test.

    Raises:
        InputError: one is missing, or is not as described; the message says which and how.
    """
    given, before, notices = joined(given, source)
    rows = (*source.rows, *(["sample_ids"] if "sample_ids" in given else []))
    source = replace(source, before=before, rows=rows)
    refuse_missing(given, source)
    features = _features(given, source)
    count = len(features)
    wanted = ("train", "test") if tests else ("train",)
    split, renamed = splits(given["split"], count, source, wanted)
    per_prompt = _text(given, features.shape[1], source)
    classes = None if per_prompt is None else len(per_prompt)
    labels, classnames, named = labelled(given, count, classes, source)
    if per_prompt is None:
        refuse_absent(labels, split, classnames, given, source)
    elif len(per_prompt) != len(classnames):
        raise source.fault(
            "text_features",
            f"its rows have {per_prompt.shape[2]} numbers and it has {len(per_prompt)} classes, "
            f"where features have {features.shape[1]} and classnames {len(classnames)}",
            f"text_features {[len(classnames), features.shape[1]]}, a row for each class name",
        )
    draws, drawn = given_draws(given, labels, split, classnames, source)
    return Arrays(
        features=features,
        labels=labels,
        split=split,
        ids=_ids(given.get("sample_ids"), split, source),
        classnames=classnames,
        per_prompt=per_prompt,
        logit_scale=_scale(given, logit_scale, source),
        draws=draws,
        notices=(*notices, *renamed, *named, *drawn, *_notices(given, labels, split, classnames)),
        sentences=_sentences(given, per_prompt, classnames, source),
    )


def _features(given: Given, source: Source) -> NDArray[Any]:
    """Rows [N, D] that can be normalised."""
    x = given["features"]
    rows = given["labels"].shape[0] if given["labels"].ndim else 0
    if x.ndim == 3 and x.shape[1] == 1:
        x = x[:, 0]
    shape = list(x.shape)
    if x.ndim == 3 and x.dtype.kind == "f" and x.size:
        if shape[1] == shape[2]:
            fix = "features = features.reshape(len(features), -1)  # if these are pixels"
        else:
            fix = "features = features[:, 0]  # the class token; or features.mean(1), all of them"
        what = f"patches or tokens, {shape}, {shape[1]} vectors a row where one is needed"
        raise source.fault("features", what, fix)
    if x.ndim == 4 and x.dtype.kind in "biuf" and x.size:
        pixels = 3 in (shape[1], shape[3]) or 1 in (shape[1], shape[3])
        raise source.fault(
            "features",
            f"{'pixels' if pixels else 'feature maps'}, {shape}, where each row is one vector",
            "features = features.reshape(len(features), -1).astype(np.float32)"
            if pixels
            else "features = features.mean((2, 3))  # if the channels are the second axis",
        )
    if x.ndim == 2 and shape[0] != rows and shape[1] == rows:
        what = f"its shape is {shape}, and there are {rows:,} labels: a column each"
        raise source.fault("features", what, "features = features.T")
    return _vectors("features", x, source, axes=(2,))


def _text(given: Given, dim: int, source: Source) -> NDArray[Any] | None:
    """Text features [C, T, D], None without any."""
    if "text_features" not in given:
        return None
    x = given["text_features"]
    shape, name = list(x.shape), "text_features"
    if x.ndim == 2 and shape[1] != dim and shape[0] == dim:
        what = f"its shape is {shape}, and features have {dim} numbers: a column a class"
        raise source.fault(name, what, "text_features = text_features.T")
    classes = class_count(given)
    if x.ndim == 3 and shape[0] != classes and shape[1] == classes:
        what = f"its shape is {shape}, and there are {classes} classes: prompts come first"
        raise source.fault(name, what, "text_features = text_features.transpose(1, 0, 2)")
    text = _vectors(name, x, source, axes=(2, 3))
    if shape[-1] != dim:
        raise source.fault(
            name,
            f"its rows have {shape[-1]} numbers and it has {shape[0]} classes, where features have "
            f"{dim}: they are of another encoder, or not projected",
            f"text_features {[shape[0], dim]} from the text tower of the same encoder",
        )
    return text if text.ndim == 3 else text[:, None]


def _sentences(
    given: Given, text: NDArray[Any] | None, classnames: Sequence[str], source: Source
) -> NDArray[Any] | None:
    """Features of sentences [C, S, D], those of a class first; None without any."""
    name = "sentence_features"
    if name not in given:
        return None
    if text is None:
        fix = f"give text_features too, {KNOWN['text_features']}"
        raise source.fault(name, "they stand beside text_features, which are missing", fix)
    x = given[name]
    if why := _unlike_text(x, text):
        fix = f"{name} [{len(text)}, S, {text.shape[2]}], {KNOWN[name].partition(', floats, ')[2]}"
        raise source.fault(name, f"its shape is {list(x.shape)}: {why}", fix)
    if x.dtype.kind != "f":
        return _vectors(name, x, source, axes=(3,))  # which says so
    absent = ~(x != 0).any(-1)  # [C, S]
    if absent.all(1).any():
        lost = [classnames[k] for k in np.flatnonzero(absent.all(1)).tolist()]
        fix = f"give a sentence or more of each class, rows {name}[{classnames.index(lost[0])}]"
        raise source.fault(name, f"classes without any: {some(lost)}", fix)
    whole = _vectors(name, np.where(absent[..., None], np.ones((), x.dtype), x), source, axes=(3,))
    order = absent.argsort(1, kind="stable")[..., None]
    return np.take_along_axis(np.where(absent[..., None], whole.dtype.type(0), whole), order, 1)


def _unlike_text(sentences: NDArray[Any], text: NDArray[Any]) -> str:
    """Why sentences are not [C, S, D] of the classes and numbers that text [C, T, D] has."""
    if sentences.ndim != 3:
        return "its axes have to be classes, sentences and numbers"
    if len(sentences) != len(text):
        return f"{len(sentences)} classes, not the {len(text)} of text_features"
    if sentences.shape[2] != text.shape[2]:
        return f"{sentences.shape[2]} numbers a row, not the {text.shape[2]} of text_features"
    return "" if sentences.size else "there are none"


def _vectors(
    name: str, given: NDArray[Any], source: Source, *, axes: Sequence[int]
) -> NDArray[Any]:
    """Rows that can be normalised: float16 as it is, any other float as float32."""
    if given.dtype.kind != "f":
        brain = " (bfloat16, which .npz does not know)" if given.dtype == "V2" else ""
        fix = f"{name} = {name}.astype(np.float32)"
        raise source.fault(name, f"{given.dtype}{brain} and not floats", fix)
    source.expect(name, given, fits=given.ndim in axes and given.size > 0)
    with np.errstate(over="ignore"):  # an overflow is found below
        vectors = np.ascontiguousarray(
            given, np.float16 if given.dtype.itemsize == 2 else np.float32
        )
    rows = vectors.reshape(-1, vectors.shape[-1])
    step = max(1, min(BLOCK, SQUARES // rows.shape[1]))
    bad = ~np.concatenate([_usable(rows[k : k + step]) for k in range(0, len(rows), step)])
    if bad.any():
        first = rows[int(np.argmax(bad))]
        why = "are not finite" if not np.isfinite(first).all() else "have no length"
        what = f"{bad.sum():,} of {len(rows):,} rows {why}: {some(np.flatnonzero(bad))}"
        fix = f"compute these rows again; norms may be {NORMS[0]:g} to {NORMS[1]:g}"
        if name == "features":
            norms = "norms = np.linalg.norm(features.astype(float), axis=1)"
            kept = source.keep(f"(norms >= {NORMS[0]:g}) & (norms <= {NORMS[1]:g})")
            fix = f"{norms}; {kept}  # leaves them out"
        raise source.fault(name, what, fix)
    return vectors


def _usable(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are finite and have a norm that float32 holds."""
    norm = np.sqrt(np.square(rows, dtype=np.float64).sum(1))
    usable: NDArray[np.bool_] = (norm >= NORMS[0]) & (norm <= NORMS[1])
    return usable


def _ids(given: NDArray[Any] | None, split: NDArray[np.str_], source: Source) -> list[str]:
    """The sample ids; by default the row's number."""
    count, name = len(split), "sample_ids"
    if given is None:
        return [str(row) for row in range(count)]
    ids = source.texts(name, given.astype(str) if given.dtype.kind in "iu" else given, count)
    places = Counter(zip(split.tolist(), ids, strict=True))
    twice = list(dict.fromkeys(one for (_, one), times in places.items() if times > 1))
    if twice:
        what = f"{len(twice):,} ids stand there more than once: {some(twice)}"
        fix = 'sample_ids = np.array([f"{k} {one}" for k, one in enumerate(sample_ids)])'
        raise source.fault(name, what, fix)
    if any(one.strip() == "" or "\n" in one for one in ids):
        raise source.fault(name, "an id is empty or has a line feed")
    return ids


def _scale(given: Given, asked: float | None, source: Source) -> float:
    """The logit scale of the file or the command line."""
    if "logit_scale" not in given:
        if asked is not None:
            return _plausible(_number(np.asarray(asked), source), "--logit-scale", source)
        if "text_features" not in given:
            return PLAIN_SCALE
        raise InputError(
            "there are text features, but not the scale of their logits",
            where=f"{source.file} (has {', '.join(given)})",
            fix=f"give it, 100 for OpenAI's CLIP: {source.command} --logit-scale 100",
        )
    value = _number(given["logit_scale"], source)
    if asked is not None and asked != value:
        raise InputError(
            f"--logit-scale is {asked:g}, and logit_scale in the file {value:g}",
            where=source.file,
            fix=f"take that of the file: {source.command}",
        )
    return _plausible(value, "logit_scale", source)


def _number(given: NDArray[Any], source: Source) -> float:
    value = float(given.reshape(-1)[0]) if given.size == 1 and given.dtype.kind in "iuf" else 0.0
    if not (isfinite(value) and value > 0):
        shown = f"{given.dtype} {list(given.shape)}" if given.size != 1 else f"{given.item()!r}"
        raise source.fault("logit_scale", f"{shown} is no scale above 0")
    return value


def _plausible(value: float, name: str, source: Source) -> float:
    """A scale that is none of the other numbers which go by its name."""
    low, high = SCALES
    if value < log(high) and low <= exp(value):
        scale, made, shown = exp(value), "np.exp(logit_scale)", f"exp({value:.4g})"
        what = "looks like CLIP's parameter, the log of the scale"
    elif value < 1 and low <= 1 / value <= high:
        scale, made, shown = 1 / value, "1 / logit_scale", f"1 / {value:.4g}"
        what = "looks like a temperature, one over the scale"
    else:
        return value
    raise InputError(
        f"{name}: {value:.4g} {what}: {shown} = {scale:.1f}",
        where=source.file,
        fix=f"logit_scale = {made}  # {shown} = {scale:.1f}"
        if name in KNOWN
        else f"{source.command} --logit-scale {scale:.4g}",
    )


def _notices(
    given: Given, labels: NDArray[np.int64], split: NDArray[np.str_], classnames: Sequence[str]
) -> list[str]:
    notices = []
    unknown = [name for name in given if name not in KNOWN and not is_draw(name)]
    if unknown:
        notices.append(
            f"left out: {', '.join(unknown)} (known are {', '.join(KNOWN)}, draw_SEED_K)"
        )
    for name, so in (("train", "; methods that learn need one"), ("test", "")):
        absent = absent_classes(labels, split, classnames, name)
        if absent and name in split:
            notices.append(
                f"{len(absent)} of {len(classnames)} classes have no row of split {name}{so}: "
                f"{some(absent)}"
            )
    return notices
