"""Arrays as people give them in Python, checked, and what is wrong with them in their words."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import CacheclipError, InputError
from cacheclip.exchange.labels import refuse_mixed
from cacheclip.exchange.source import KNOWN
from cacheclip.store.key import NAME_RULE, can_be_name
from cacheclip.store.schema import SPLITS

# What `Features.of` calls the arrays that a file calls otherwise.
CALLED = {
    "features": "X",
    "labels": "y",
    "text_features": "text",
    "sentence_features": "sentences",
    "sample_ids": "ids",
}
OF_TEXTS = ("text_features", "sentence_features")
VECTORS = ("features", *OF_TEXTS)


def parts_of(name: str) -> tuple[str, ...]:
    """What an array of each split is called: X_train, y_test."""
    return tuple(f"{CALLED.get(name, name)}_{split}" for split in SPLITS)


def by_split(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays that are given as one a split, each by a name of its own: X_train, y_test."""
    given: dict[str, Any] = {}
    for name, parts in arrays.items():
        if parts is None:
            continue
        own = CALLED[name]
        if not isinstance(parts, Mapping) or not parts.keys() <= set(SPLITS):
            shown = list(parts) if isinstance(parts, Mapping) else type(parts).__name__
            raise InputError(
                f"{own}: {shown}, where X is one array a split",
                where="Features.of(X, y, ...)",
                fix=f'{own} = {{"train": {own}_train, "test": {own}_test}}; splits are train, val '
                "and test",
            )
        given |= {f"{own}_{split}": part for split, part in parts.items()}
    return given


def as_array(name: str, x: Any) -> NDArray[Any]:
    """An array of what people have: tensors, lists, columns of a table."""
    if hasattr(x, "detach"):  # a tensor; torch itself need not be loaded to know one
        x = x.detach().cpu()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x  # which NumPy does not know
    if name in OF_TEXTS and _is_text(x):
        own = CALLED[name]
        raise InputError(
            f"{own}: texts, where their features are needed",
            where="Features.of(X, y, ...)",
            fix=f"encode them by the text tower of the encoder that made X: {own} {KNOWN[name]}",
        )
    try:
        array = np.asarray(x)
    except ValueError as error:  # lists of unequal length
        own = CALLED.get(name, name)
        raise InputError(
            f"{own}: no array can be made of it: {error}",
            where="Features.of(X, y, ...)",
            fix=f"{own} = np.array({own}), whose rows are of one length",
        ) from None
    labels = name in ("labels", *parts_of("labels"))
    if labels and array.dtype.kind == "U" and isinstance(x, list | tuple):
        array = np.asarray(x, object)  # in which NaN is no text
    if array.dtype.kind == "O" and array.size and all(isinstance(one, str) for one in array.flat):
        return array.astype(str)
    if name in (*VECTORS, *parts_of("features")) and array.dtype.kind in "iu":
        return array.astype(np.float32)
    return array


def _is_text(x: Any) -> bool:
    """Whether this is a text, or holds some and not numbers."""
    if isinstance(x, Mapping):
        return True
    if isinstance(x, list | tuple) and x:
        return _is_text(x[0])
    return isinstance(x, str) or getattr(getattr(x, "dtype", None), "kind", "") in ("U", "S")


def refuse_mixed_labels(found: Mapping[str, NDArray[Any]], split: Any) -> None:
    """Refuse labels of which some are missing, or some are texts and some numbers."""
    for part, suffix in (("labels", ""), *zip(parts_of("labels"), SPLITS, strict=True)):
        if part in found and found[part].dtype.kind == "O":
            end = f"_{suffix}" if suffix else ""
            ids = "sample_ids" if not suffix else f"ids{end}"
            rows = [f"X{end}", f"y{end}"] + ["split"] * (split is not None)
            rows += [f"ids{end}"] * (ids in found)
            refuse_mixed(f"y{end}", found[part], rows, "Features.of(X, y, ...)")


def refuse_name(name: str) -> None:
    """Refuse what cannot be the name of a data set."""
    if not can_be_name(name):
        raise InputError(
            f"{name!r} cannot be the name of a data set",
            where="Features.of(X, y, name=...)",
            fix=NAME_RULE,
        )


def refuse_text_without_scale(found: Mapping[str, NDArray[Any]]) -> None:
    """Refuse text features whose logits have no scale."""
    if "text_features" in found and "logit_scale" not in found:
        raise InputError(
            "there are text features, but not the scale of their logits",
            where="Features.of(X, y, text=text)",
            fix="give it, 100 for OpenAI's CLIP: Features.of(..., logit_scale=100)",
        )


def in_own_words(error: CacheclipError, given: Mapping[str, Any]) -> InputError:
    """An error of checked arrays, by the names that `Features.of` has for them.

    Args:
        error: the error.
        given: own name -> what was given; of lists a fix has to make arrays first.
    """
    what, fix = error.what, error.fix
    for name, own in CALLED.items():
        # "features" and "labels" are words of a sentence too, unless they begin it.
        what = re.sub(rf"\b{name}\b" if "_" in name else f"^{name}(?=:)", own, what)
        fix = re.sub(rf"\b{name}\b", own, fix)
    lists = [own for own, x in given.items() if isinstance(x, list | tuple)]
    used = [own for own in lists if re.search(rf"(?<![\w.]){own}(\[| = {own} |\.)", fix)]
    fix = "".join(f"{own} = np.array({own}); " for own in used) + fix
    return InputError(what, where=error.where, fix=fix)
