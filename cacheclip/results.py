"""The one definition of a result row, and the log that rows are appended to."""

import json
from collections.abc import Collection, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cacheclip.disk import append_line, digest

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
    fewer: Annotated[str, "keep where some classes gave fewer images than shots, else error"] = (
        "error"
    )

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

_FIELDS = {field.name: field.default for field in fields(Row)}


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
                row = _row(content)
            except (ValueError, KeyError):
                continue  # torn by a crash, or written by another version
            if row.error is None and row.row_id == row_id:
                found[row_id] = row
    return found


def _row(content: dict[str, Any]) -> Row:
    """The row of a line, which may be older than the last fields."""
    own = {
        name: content[name]
        for name, default in _FIELDS.items()
        if name in content or default is MISSING
    }
    return Row(**own)


def append(home: Path, rows: Sequence[Row]) -> None:
    """Add rows to the log of a home folder in one write; nothing is ever overwritten."""
    append_line(home / LOG, "\n".join(json.dumps(row.as_json(), allow_nan=False) for row in rows))
