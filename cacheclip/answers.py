"""What a row answered for each test picture, and which pictures these are.

`predictions/<row_id>.npz` holds the answers of a row, those for held-out pictures, and the curve of
what competed for it; `tests/<test_id>.json` the ids of the test pictures, which many rows share.
"""

import hashlib
import io
import shlex
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cacheclip import curves
from cacheclip.curves import Point
from cacheclip.errors import UPGRADE, StoreError, argument
from cacheclip.files.disk import digest, publish_bytes, publish_json, read_json, sha256_file
from cacheclip.files.typed import fits

FORMAT = 3  # of a file of predictions
RUNNERS_UP = 10  # classes kept of each picture, the predicted one among them
MOST_OF_16_BITS = 2**16  # classes that uint16 tells apart

Classes = NDArray[np.unsignedinteger[Any]]


class Rooted(Protocol):
    """A home folder, as `cacheclip.Home` is one."""

    @property
    def root(self) -> Path:
        """The folder."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What one classifier says of n labelled pictures.

    Classes and ranks are uint16; uint32 where there are more than 65,536 classes. Probabilities are
    at the temperature of the row where nothing else is said.

    Attributes:
        predicted: [n], the class of the largest logit.
        label: [n], the class that the picture has.
        true_log_p: [n] float16, log probability of the label.
        top_p: [n] float16, probability of the prediction.
        true_rank: [n], how many classes stand before the label; 0 where it is predicted.
        top: [n, k], the classes of the largest logits, falling; the first is `predicted`. k is 10,
            or the number of classes; 1 in files of format 1, which held no more.
        top_log_p: [n, k] float16, their log probabilities.
        raw_top_p: [n] float16, probability of the prediction by the logits as they come; None in
            files of format 1 and 2.
        logits: [n, C] float16 as they come, where they were to be kept.
    """

    predicted: Classes
    label: Classes
    true_log_p: NDArray[np.float16]
    top_p: NDArray[np.float16]
    true_rank: Classes
    top: Classes
    top_log_p: NDArray[np.float16]
    raw_top_p: NDArray[np.float16] | None = None
    logits: NDArray[np.float16] | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions(Answered):
    """What one row answered for its n test pictures, in the order of the test split.

    Attributes:
        ids: [n], the pictures.
        choice: what it says of validation pictures that its settings were chosen on; None where
            none were, and in files of format 1 and 2.
        calibration: what it, or fits of the same settings that did not see them, say of the
            pictures that its temperature was fitted on; None where it has none, and in such files.
    """

    ids: list[str]
    choice: Answered | None = None
    calibration: Answered | None = None


def class_type(n_classes: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The type of class numbers and ranks."""
    return np.dtype(np.uint16 if n_classes <= MOST_OF_16_BITS else np.uint32)


_CLASSES, _SHARES = (np.uint16, np.uint32), (np.float16,)
_ARRAYS = {
    "predicted": _CLASSES,
    "label": _CLASSES,
    "true_log_p": _SHARES,
    "top_p": _SHARES,
    "true_rank": _CLASSES,
    "top": _CLASSES,
    "top_log_p": _SHARES,
}
_OPTIONAL = {"raw_top_p": _SHARES, "logits": _SHARES}
_OF_EACH_CLASS = ("top", "top_log_p")  # [n, k], the others [n]; logits are [n, C]
_HELD = ("choice", "calibration")  # what these arrays are of, before their names, if not of test
_CURVE = "curve"  # before the names of its columns
_ANSWERS = [*_ARRAYS, *_OPTIONAL, *(f"{of}.{n}" for of in _HELD for n in (*_ARRAYS, *_OPTIONAL))]
_COLUMNS = [f"{_CURVE}.{name}" for name in curves.NAMES]
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, MemoryError, RecursionError),
    *(ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, OverflowError),
    *(SyntaxError, tokenize.TokenError),
)


def write_predictions(
    root: Path, row_id: str, predictions: Predictions, curve: Sequence[Point] = (), n_val: int = 0
) -> str:
    """Publish what a row answered; pictures that other rows were tested on are there already.

    Args:
        root: the home.
        row_id: the row's.
        predictions: what it answered.
        curve: what competed for it.
        n_val: the validation pictures that it competed on.

    Returns:
        SHA-256 of the file.
    """
    keep_ids(root, predictions.ids)
    arrays = _arrays(predictions)
    for name in _HELD:
        held = getattr(predictions, name)
        arrays |= {} if held is None else _named(name, _arrays(held))
    arrays |= _named(_CURVE, curves.columns(curve, n_val)) if curve else {}
    buffer = io.BytesIO()
    test_id = np.array(digest(predictions.ids)[:16])
    np.savez(buffer, allow_pickle=False, test_id=test_id, format=np.array(FORMAT), **arrays)
    data = buffer.getvalue()
    publish_bytes(_arrays_path(root, row_id), data, option=argument("results"))
    return hashlib.sha256(data).hexdigest()


def _arrays(answered: Answered) -> dict[str, NDArray[Any]]:
    """The arrays that there are, by name."""
    found = {name: getattr(answered, name) for name in (*_ARRAYS, *_OPTIONAL)}
    return {name: x for name, x in found.items() if x is not None}


def _named(part: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays as they are called in a file: PART.NAME."""
    return {f"{part}.{name}": x for name, x in arrays.items()}


def _of_part(part: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of a part by their own names."""
    begin = f"{part}."
    return {n.removeprefix(begin): x for n, x in arrays.items() if n.startswith(begin)}


def keep_ids(root: Path, ids: list[str], *, proved: bool = False) -> bool:
    """Publish the ids of test pictures unless they are there.

    Args:
        root: the home.
        ids: in order.
        proved: look into a file that is there, and make a damaged one anew.

    Returns:
        Whether what was there was damaged.
    """
    test_id = digest(ids)[:16]
    path = _ids_path(root, test_id)
    there = path.exists()
    if there and (not proved or _holds(path, ids)):
        return False
    publish_json(path, {"test_id": test_id, "ids": ids}, option=argument("results"))
    return there


def _holds(path: Path, ids: list[str]) -> bool:
    try:
        content = read_json(path)
    except StoreError:
        return False
    return isinstance(content, dict) and content.get("ids") == ids


def intact(root: Path, row_id: str, sha256: str | None, top1: float | None) -> bool:
    """Whether the predictions of a row are there and are those it was written with.

    Args:
        root: the home.
        row_id: the row's.
        sha256: of the file; None of a row that is older than that field.
        top1: its test accuracy, which has to follow from the predictions of such a row.
    """
    path = _arrays_path(root, row_id)
    if not path.is_file():
        return False
    try:
        if sha256 is not None:
            return sha256_file(path) == sha256
        found = predictions(root, row_id)
    except (OSError, StoreError):
        return False
    return top1 is not None and abs((found.predicted == found.label).mean() - top1) < 1e-9


def predictions(home: Rooted | Path | str, row_id: str) -> Predictions:
    """What a row answered for each test picture.

    Args:
        home: the home folder.
        row_id: of a row that has a test accuracy.

    Raises:
        StoreError: there is no such file, it is damaged, or a newer cacheclip wrote it.
    """
    root = _root(home)
    path = _arrays_path(root, row_id)
    with _opened(path, row_id, [*_ANSWERS, "test_id"]) as arrays:
        if "label" not in arrays and "predicted" in arrays:
            raise StoreError(
                "these predictions were written by an earlier version, without the labels",
                where=str(path),
                fix="run the fit again, or the comparison with --on-existing redo",
            )
        if arrays.get("format", np.array(1)) == 1:
            arrays |= _with_one_class(arrays)
        ids = _ids(root, path, arrays)
        own = {name: arrays[name] for name in (*_ARRAYS, *_OPTIONAL) if name in arrays}
        return Predictions(
            **_whole(own, len(ids), path),
            ids=ids,
            choice=_held(arrays, "choice", path),
            calibration=_held(arrays, "calibration", path),
        )


def curve(home: Rooted | Path | str, row_id: str) -> list[Point] | None:
    """What competed for a row, each candidate with its hparams, top1_val and nll_val.

    Args:
        home: the home folder.
        row_id: of a row that has a test accuracy.

    Returns:
        A point a candidate; None where nothing competed, or an earlier version wrote the row, which
        kept the curve in the row itself.

    Raises:
        StoreError: there is no such file, it is damaged, or a newer cacheclip wrote it.
    """
    with _opened(_arrays_path(_root(home), row_id), row_id, _COLUMNS) as arrays:
        held = _of_part(_CURVE, arrays)
        return curves.points(held) if held else None


def has_logits(root: Path, row_id: str) -> bool:
    """Whether the predictions of a row hold all logits."""
    with _opened(_arrays_path(root, row_id), row_id, ["logits"]) as arrays:
        return "logits" in arrays


def _root(home: Rooted | Path | str) -> Path:
    return Path(home) if isinstance(home, Path | str) else home.root


@contextmanager
def _opened(path: Path, row_id: str, names: Sequence[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """Those of the named arrays, and `format`, that a file has; what is wrong there is damage."""
    if not path.is_file():
        raise StoreError(
            f"there are no predictions of a row {row_id}",
            where=str(path),
            fix="take a row_id of results.jsonl that has no error, or fit it again",
        )
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > path.stat().st_size:
                raise ValueError("it says that it holds more than it does")
            arrays = {name: file[name] for name in (*names, "format") if name in file.files}
            _refuse_newer(path, arrays)
            if not {*file.files} <= {*_ANSWERS, *_COLUMNS, "test_id", "format"}:
                raise ValueError("a name that is none, and so one that is lacking")
        yield arrays
    except _UNREADABLE:
        raise _damaged(path, "it cannot be read") from None


def _held(arrays: Mapping[str, NDArray[Any]], part: str, path: Path) -> Answered | None:
    """What a file says of held-out pictures, if it does."""
    own = _of_part(part, arrays)
    return Answered(**_whole(own, len(own["label"]), path)) if own else None


def _whole(arrays: dict[str, NDArray[Any]], n: int, path: Path) -> dict[str, Any]:
    """The arrays of n pictures, once they are of the types and shapes that they must have."""
    kinds = {**_ARRAYS, **_OPTIONAL}
    if any(x.dtype not in kinds[name] for name, x in arrays.items()):
        raise _damaged(path, "its arrays are of other types")
    shape = (n, *arrays["top"].shape[1:])
    wanted = {name: shape if name in _OF_EACH_CLASS else (n,) for name in arrays}
    if (logits := arrays.get("logits")) is not None:
        wanted["logits"] = (n, *logits.shape[1:2])
    if any(x.shape != wanted[name] for name, x in arrays.items()):
        raise _damaged(path, f"its arrays are not of {n} pictures")
    return arrays


def _with_one_class(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What stands for the runners-up in a file of format 1: the predicted class alone."""
    if not {"predicted", "top_p"} <= set(arrays) or arrays["top_p"].dtype != np.float16:
        return {}
    top_log_p = np.log(np.maximum(arrays["top_p"], np.float16(2**-24)))
    return {"top": arrays["predicted"][..., None], "top_log_p": top_log_p[..., None]}


def _refuse_newer(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    version = arrays.get("format", np.array(FORMAT))
    if version.ndim or version.dtype.kind not in "iu":
        raise _damaged(path, "its format is no number")
    if version > FORMAT:
        raise StoreError(
            "these predictions were written by a newer cacheclip", where=str(path), fix=UPGRADE
        )


def _ids(root: Path, path: Path, arrays: dict[str, NDArray[Any]]) -> list[str]:
    """The ids of the pictures that these arrays are of."""
    if absent := sorted({*_ARRAYS, "test_id"} - set(arrays)):
        raise _damaged(path, f"it holds no {', '.join(absent)}")
    place = _ids_path(root, str(arrays["test_id"]))
    try:
        content = read_json(place)
    except FileNotFoundError:
        raise _damaged(path, f"{place} is missing") from None
    ids: Any = content.get("ids") if isinstance(content, dict) else None
    if not fits(ids, list[str]) or digest(ids)[:16] != str(arrays["test_id"]):
        raise _damaged(place, "its ids are not those that it is named after")
    return list(ids)


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"these predictions are damaged: {why}",
        where=str(path),
        fix=f"rm {shlex.quote(str(path))}, then run the fit again, or the comparison with "
        "--on-existing redo",
    )


def _arrays_path(root: Path, row_id: str) -> Path:
    return root / "predictions" / f"{row_id}.npz"


def _ids_path(root: Path, test_id: str) -> Path:
    return root / "tests" / f"{test_id}.json"
