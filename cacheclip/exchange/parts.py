"""Arrays that come split by split, `X_train`, `test_labels` and their like, joined into one."""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.source import CUT, KNOWN, REQUIRED, Given, Source
from cacheclip.store.schema import SPLITS
from cacheclip.store.split_words import split_of

CALLED = {  # by others
    "features": ("features", "feats", "x", "image_features", "feat", "embeddings", "data", "arr_0"),
    "labels": ("labels", "label", "y", "targets", "arr_1"),
    "sample_ids": ("sample_ids", "ids", "paths", "filenames"),
    "split": ("splits", "arr_2"),
}
MEANT = {other: name for name, others in CALLED.items() for other in others if name != "split"}
LISTS = "idx|index|indices|mask"  # as in train_idx, test_mask


def is_part(name: str) -> bool:
    """Whether an array of this name belongs to one split of a known array."""
    return _part(name) is not None


def _part(name: str) -> tuple[str, str] | None:
    """The array and the split that a name like `X_train` or `test_labels` stands for."""
    words = re.split(r"[_/. -]", re.sub(r"^([xXyY])(?=[a-z]{3})", r"\1_", name))
    for word, rest in ((words[0], words[1:]), (words[-1], words[:-1])):
        split, own = split_of(word), MEANT.get("_".join(rest).lower())
        if split is not None and own is not None:
            return own, split
    return None


def joined(given: Given, source: Source) -> tuple[dict[str, NDArray[Any]], str, list[str]]:
    """The arrays with parts made one, the Python that does the same, and a notice.

    Args:
        given: the arrays by name.
        source: where they come from.

    Raises:
        InputError: a split has features or labels alone, or its parts do not fit together.
    """
    parts = by_split(given, source)
    if not parts:
        return dict(given), "", []
    order = [split for split in SPLITS if split in parts["features"]]
    _refuse_unlike_parts(parts, given, source)
    whole = {name: x for name, x in given.items() if not is_part(name)}
    lines = []
    for own, names in parts.items():
        whole[own] = np.concatenate([given[names[split]] for split in order])
        lines.append(f"{own} = np.concatenate([{', '.join(names[split] for split in order)}])")
    sizes = [len(given[parts["features"][split]]) for split in order]
    whole["split"] = np.repeat(order, sizes)
    lengths = ", ".join(f"len({parts['features'][split]})" for split in order)
    lines.append(f"split = np.repeat({order}, [{lengths}])")
    used = ", ".join(names[split] for names in parts.values() for split in order)
    return whole, "; ".join(lines) + "; ", [f"joined split by split: {used}"]


def by_split(given: Collection[str], source: Source) -> dict[str, dict[str, str]]:
    """Array -> split -> its name in the file; {} where the features are whole, or not there.

    Raises:
        InputError: two of the names stand for one part.
    """
    parts: dict[str, dict[str, str]] = {}
    for name in given:
        part = _part(name)
        if part:
            own, split = part
            if split in parts.setdefault(own, {}):
                raise _two_for_one(name, parts[own][split], source)
            parts[own][split] = name
    return {} if "features" in given or "features" not in parts else parts


def refuse_unlike(given: Given, source: Source) -> None:
    """Refuse arrays that have not a row for each row of the features, by their shapes alone.

    Raises:
        InputError: as `joined` and the checks after it would.
    """
    parts = by_split(given, source)
    if parts:
        _refuse_unlike_parts(parts, given, source)
        return
    shape = given["features"].shape if "features" in given else ()
    labels = given["labels"].shape if "labels" in given else ()
    if len(shape) != 2 or 0 in shape or labels[:1] == shape[1:]:
        return  # what is wrong with these has a better name
    for name in ("split", "labels", "sample_ids"):
        fits = name not in given or shape[0] in given[name].shape
        if not fits:
            source.expect(name, given[name], fits=fits, count=shape[0])


def _refuse_unlike_parts(parts: dict[str, dict[str, str]], given: Given, source: Source) -> None:
    for own in [name for name in ("labels", "sample_ids") if name == "labels" or name in parts]:
        _refuse_unlike(own, parts, given, source)


def _two_for_one(name: str, other: str, source: Source) -> InputError:
    return InputError(
        f"two arrays are the same part: {other} and {name}",
        where=source.file,
        fix=f"leave one of them out, or {other} = np.concatenate([{other}, {name}])",
    )


def _refuse_unlike(
    own: str, parts: dict[str, dict[str, str]], given: Given, source: Source
) -> None:
    """Refuse parts that do not go with the features of their splits."""
    features, names = parts["features"], parts.get(own, {})
    lonely = [features[split] for split in features if split not in names]
    lonely += [names[split] for split in names if split not in features]
    if lonely:
        other = own if lonely[0] in features.values() else "features"
        raise InputError(
            f"{lonely[0]} has no {other} of the same split",
            where=f"{source.file} (has {', '.join(given)})",
            fix=f"add them, named like it; or one array for all rows, {other} {KNOWN[other]}",
        )
    for split, name in names.items():
        rows, there = given[features[split]].shape[:1], given[name].shape[:1]
        if not rows:
            what = f"{features[split]} is one number"
            raise InputError(what, where=source.file, fix=f"{features[split]} [N, D], floats")
        if there != rows:
            own_rows = f"{features[split]} has {rows[0]:,} rows"
            what = f"{name} has {list(given[name].shape)}, and {own_rows}"
            raise InputError(what, where=source.file, fix=f"{name} [{rows[0]}], one a row")
    for same in ("features", own):
        kinds = {given[name].dtype.kind for name in parts[same].values()}
        tails = {given[name].shape[1:] for name in parts[same].values()}
        if len(tails) > 1 or (kinds & {"U", "S"} and kinds - {"U", "S"}):
            shown = "; ".join(
                f"{name} {given[name].dtype} {list(given[name].shape)}"
                for name in parts[same].values()
            )
            raise InputError(
                f"the parts of {same} do not fit together: {shown}",
                where=source.file,
                fix="save all splits by the same code, of one encoder",
            )


def refuse_missing(given: Given, source: Source) -> None:
    """Refuse a file that lacks an array, with the names that may stand for it.

    Raises:
        InputError: features, labels or split are not there.
    """
    missing = [name for name in REQUIRED if name not in given]
    if not missing:
        return
    lines = [in_its_place(name, given) for name in missing]
    found = "; ".join(line for line in lines if line)
    wanted = "; ".join(f"{name} {REQUIRED[name]}" for name in missing)
    raise InputError(
        f"{'an array is' if len(missing) == 1 else 'arrays are'} missing: {', '.join(missing)}",
        where=f"{source.file} (has {', '.join(given) or 'no arrays'})",
        fix=f"{found}  # {wanted}" if found else f"add {wanted}",
    )


def in_its_place(name: str, given: Collection[str]) -> str:
    """Python that makes a missing array of what is there; empty where nothing looks like it."""
    called = {one.lower(): one for one in given}
    for other in CALLED[name]:
        if other in called:
            return f"{name} = {called[other]}"
    return _split_of_lists(list(given)) or CUT if name == "split" else ""


def _split_of_lists(names: list[str]) -> str:
    """Python that makes the split of lists of rows, train_idx or test_mask; empty without any."""
    found = {}
    for name in names:
        match = re.fullmatch(rf"(.+)_({LISTS})", name)
        split = split_of(match[1]) if match else None
        if split:
            found[split] = name
    if "test" not in found:
        return ""
    rows = [f'; split[{found[one]}] = "{one}"' for one in SPLITS[1:] if one in found]
    return f'split = np.full(len(labels), "train"){"".join(rows)}'
