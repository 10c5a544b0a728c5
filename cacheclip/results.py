"""The one definition of a result row, the log that rows are appended to, and their predictions.

`results.jsonl` holds the rows, `predictions/<row_id>.npz` what a row answered for each test
picture, and `tests/<test_id>.json` the ids of these pictures, which many rows share.
"""

import json
import shlex
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Protocol, get_type_hints

import numpy as np
from numpy.typing import NDArray

from cacheclip.disk import append_line, digest, publish_json, publishing, read_json
from cacheclip.errors import StoreError

PROTOCOL_VERSION = 1
LOG = "results.jsonl"  # in the home folder


@dataclass(frozen=True)
class Row:
    """One run, as `--json` prints it and `results.jsonl` keeps it. Accuracies are fractions."""

    dataset: Annotated[str, "id of the data set learned from, split family included"]
    eval_dataset: Annotated[str, "id of the data set tested on"]
    classes: Annotated[str, "classes that count: all, base or new"]
    model: Annotated[str, "open_clip model name of the encoder"]
    pretrained: Annotated[str, "its weights: tag or file name"]
    encoders: Annotated[list[str], "MODEL@PRETRAINED of every encoder read"]
    template: Annotated[str, "name of the prompt template family"]
    method: Annotated[str, "method name"]
    method_version: Annotated[int, "raised whenever a method's results change"]
    recipe: Annotated[str | None, "as-paper or as-code, where a method knows both"]
    hparams: Annotated[dict[str, float | int | str], "effective settings after defaults and choice"]
    candidates: Annotated[str, "digest of all settings that competed for this row, as asked for"]
    shots: Annotated[int | str, "support images a class; all: every training image"]
    seed: Annotated[int | None, "seed of the draw; null where nothing is drawn"]
    init_seed: Annotated[int | None, "seed of the start and of the data order"]
    select: Annotated[str, "policy that chose the settings"]
    draw: Annotated[str, "sampling procedure of the support set"]
    draw_id: Annotated[str | None, "hash of the ordered support and validation ids"]
    test_id: Annotated[str, "hash of the ordered test ids"]
    views: Annotated[str | None, "views read beside the plain one"]
    keys: Annotated[str | None, "views that a key/value cache is made of"]
    n_classes: Annotated[int, "classes"]
    n_train: Annotated[int, "support images"]
    n_val: Annotated[int, "validation images that the choice read"]
    n_test: Annotated[int, "test images"]
    n_failed: Annotated[int, "images of the splits read that could not be encoded"]
    top1_val: Annotated[float | None, "validation accuracy of what was chosen"]
    top1_test: Annotated[float | None, "test accuracy"]
    curve: Annotated[list[dict[str, Any]] | None, "each candidate's hparams and top1_val"]
    store_key: Annotated[str, "digest of the stores this row read"]
    stores: Annotated[dict[str, str], "store -> key digest"]
    labels: Annotated[str, "digest of labels and class names"]
    protocol_version: Annotated[int, "raised whenever draws, choice or scoring change"]
    seconds: Annotated[float, "stack_seconds over stack_size"]
    stack_seconds: Annotated[float, "time to fit, choose and score the stacks this row ran in"]
    stack_size: Annotated[int, "variants in those stacks"]
    device: Annotated[str, "device it ran on"]
    precision: Annotated[str | None, "of the products of its training steps: fp32 or bf16"]
    version: Annotated[str, "cacheclip's version"]
    time: Annotated[str, "when the row was written, UTC"]
    error: Annotated[str | None, "why this cell has no result"] = None
    ci95_test: Annotated[list[float] | None, "95 % Wilson interval of top1_test, [low, high]"] = (
        None
    )
    macro_test: Annotated[float | None, "mean recall of the classes that have test images"] = None
    constant_test: Annotated[
        float | None, "test accuracy of always answering the most frequent class of the test images"
    ] = None
    zero_shot_test: Annotated[
        float | None, "test accuracy of zero-shot on the same images; null without text"
    ] = None
    untested: Annotated[list[str] | None, "names of the classes that have no test images"] = None
    temperature: Annotated[
        float | None, "what divides the logits before the softmax; null where too little is there"
    ] = None
    n_calibration: Annotated[int, "labelled images that the temperature was fitted on"] = 0
    calibrated_on: Annotated[str | None, "which images those are"] = None
    ece_test: Annotated[
        float | None, "debiased calibration error on the test images, at that temperature"
    ] = None
    ece_test_raw: Annotated[float | None, "the same of the logits as they come"] = None
    nll_test: Annotated[float | None, "mean negative log probability of the test labels"] = None
    nll_test_raw: Annotated[float | None, "the same of the logits as they come"] = None
    border: Annotated[
        list[str] | None, "settings chosen at the far end of what was tried for them"
    ] = None
    learned: Annotated[
        dict[str, float] | None, "numbers that the fit found for settings given as `learned`"
    ] = None
    fewer: Annotated[str, "keep where some classes gave fewer images than shots, else error"] = (
        "error"
    )
    calibrated_within: Annotated[
        float | None, "how far the mean confidence may be off, as these images are so many (95 %)"
    ] = None

    @property
    def row_id(self) -> str:
        """Digest of all that decides the result, known before it runs.

        What a policy chose follows from its candidates, so they count in the place of its choice.
        """
        given = (name for name, default in _DECIDES_IF_GIVEN if getattr(self, name) != default)
        return digest({name: getattr(self, name) for name in (*_DECIDES, *given)})[:16]

    def as_json(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        return {"row_id": self.row_id} | asdict(self)


_DECIDES = (
    *("dataset", "eval_dataset", "classes", "template", "method", "method_version", "recipe"),
    *("candidates", "shots", "seed", "init_seed", "select", "draw", "draw_id", "test_id", "views"),
    *("keys", "stores", "labels", "protocol_version"),
)


# Younger than the log: at its default such a field leaves the id of a row what it was without it.
_DECIDES_IF_GIVEN = (("fewer", "error"),)

_FIELDS = frozenset(field.name for field in fields(Row))


def documented() -> dict[str, str]:
    """Every JSON field and what it says, in order."""
    own = {"row_id": "digest of all that decides the result"}
    hints = get_type_hints(Row, include_extras=True)
    return own | {name: hint.__metadata__[0] for name, hint in hints.items()}


def rows(home: Path, row_ids: Collection[str]) -> dict[str, Row]:
    """The last row of each of these ids in the log of a home folder, failed ones left out."""
    found: dict[str, Row] = {}
    if not (home / LOG).exists():
        return found
    with (home / LOG).open(encoding="utf-8") as lines:
        for line in lines:
            row_id = line.partition('"row_id": "')[2].partition('"')[0]
            if row_id not in row_ids:
                continue  # most lines, and they are long
            try:
                content = json.loads(line)
                row = Row(**{name: content[name] for name in _FIELDS & set(content)})
            except (ValueError, TypeError):
                continue  # torn by a crash, or written by a version that lacks what decides
            if row.error is None and row.row_id == row_id:
                found[row_id] = row
    return found


def append(home: Path, rows: Sequence[Row]) -> None:
    """Add rows to the log of a home folder in one write; nothing is ever overwritten."""
    lines = "\n".join(json.dumps(row.as_json(), allow_nan=False) for row in rows)
    append_line(home / LOG, lines, option="--results")


class Rooted(Protocol):
    """A home folder, as `cacheclip.Home` is one."""

    @property
    def root(self) -> Path:
        """The folder."""


@dataclass(frozen=True)
class Predictions:
    """What one row answered for its n test pictures, in the order of the test split.

    Attributes:
        predicted: [n] uint16, the class of the largest logit.
        label: [n] uint16, the class that the picture has.
        true_log_p: [n] float16, log probability of the label.
        top_p: [n] float16, probability of the prediction.
        true_rank: [n] uint16, how many classes stand before the label; 0 where it is predicted.
        ids: [n], the pictures.
    """

    predicted: NDArray[np.uint16]
    label: NDArray[np.uint16]
    true_log_p: NDArray[np.float16]
    top_p: NDArray[np.float16]
    true_rank: NDArray[np.uint16]
    ids: list[str]


_ARRAYS = {
    "predicted": np.uint16,
    "label": np.uint16,
    "true_log_p": np.float16,
    "top_p": np.float16,
    "true_rank": np.uint16,
}
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError),
    *(ValueError, TypeError, KeyError, NotImplementedError, RuntimeError),
)


def write_predictions(root: Path, row_id: str, predictions: Predictions) -> None:
    """Publish what a row answered; pictures that other rows were tested on are there already."""
    test_id = digest(predictions.ids)[:16]
    if not (path := _ids_path(root, test_id)).exists():
        publish_json(path, {"test_id": test_id, "ids": predictions.ids}, option="--results")
    arrays = {name: getattr(predictions, name).astype(kind) for name, kind in _ARRAYS.items()}
    place = _arrays_path(root, row_id)
    with publishing(place, option="--results") as temporary, temporary.open("wb") as file:
        np.savez(file, test_id=np.array(test_id), **arrays)


def predictions(home: Rooted | Path | str, row_id: str) -> Predictions:
    """What a row answered for each test picture.

    Args:
        home: the home folder.
        row_id: of a row that has a test accuracy.

    Raises:
        StoreError: there is no such file, or it is damaged.
    """
    root = Path(home) if isinstance(home, Path | str) else home.root
    path = _arrays_path(root, row_id)
    if not path.is_file():
        raise StoreError(
            f"there are no predictions of a row {row_id}",
            where=str(path),
            fix=f"take a row_id of {LOG} that has no error, or fit it again",
        )
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in {*_ARRAYS, "test_id"} & set(file.files)}
    except _UNREADABLE:
        raise _damaged(path, "it cannot be read") from None
    if "label" not in arrays and "predicted" in arrays:
        raise StoreError(
            "these predictions were written by an earlier version, without the labels",
            where=str(path),
            fix="run the fit again, or the comparison with --on-existing redo",
        )
    ids = _ids(root, path, arrays)
    if any(arrays[name].dtype != kind for name, kind in _ARRAYS.items()):
        raise _damaged(path, "its arrays are of other types")
    if any(arrays[name].shape != (len(ids),) for name in _ARRAYS):
        raise _damaged(path, f"its arrays are not of {len(ids)} pictures")
    return Predictions(**{name: arrays[name] for name in _ARRAYS}, ids=ids)


def _ids(root: Path, path: Path, arrays: dict[str, NDArray[Any]]) -> list[str]:
    """The ids of the pictures that these arrays are of."""
    if absent := sorted({*_ARRAYS, "test_id"} - set(arrays)):
        raise _damaged(path, f"it holds no {', '.join(absent)}")
    place = _ids_path(root, str(arrays["test_id"]))
    try:
        content = read_json(place)
    except FileNotFoundError:
        raise _damaged(path, f"{place} is missing") from None
    ids = content.get("ids") if isinstance(content, dict) else None
    if not isinstance(ids, list) or digest(ids)[:16] != str(arrays["test_id"]):
        raise _damaged(place, "its ids are not those that it is named after")
    return ids


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
