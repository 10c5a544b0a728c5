"""The one definition of a result row, and the log that rows are appended to: `results.jsonl`."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cacheclip.errors import UPGRADE, StoreError, argument
from cacheclip.files.disk import append_line, digest, sealed
from cacheclip.files.log import lines_left_out, read_log
from cacheclip.files.typed import wrong_field

PROTOCOL_VERSION = 1
FORMAT = 1  # of a line of the log
SHARE, COUNT = (0.0, 1.0), (0, inf)  # least and greatest value of a field
LOG = "results.jsonl"  # in the home folder


@dataclass(frozen=True)
class Row:
    """One run, as `--json` prints it and `results.jsonl` keeps it. Accuracies are fractions."""

    dataset: Annotated[str, "id of the data set learned from, split family included"]
    eval_dataset: Annotated[str, "id of the data set tested on"]
    classes: Annotated[str, "classes that count: all, base, new, or K-of-C-DIGEST of names"]
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
    views: Annotated[
        str | None,
        "how many views of each support image were read, the plain one first; null: that alone",
    ]
    keys: Annotated[str | None, "views that a key/value cache is made of"]
    n_classes: Annotated[int, "classes", COUNT]
    n_train: Annotated[int, "support images", COUNT]
    n_val: Annotated[int, "pictures that the choice went by, unseen by the fits it judged", COUNT]
    n_test: Annotated[int, "test images", (1, inf)]
    n_failed: Annotated[int, "images of the splits read that could not be encoded", COUNT]
    top1_val: Annotated[float | None, "accuracy of what was chosen on these images", SHARE]
    top1_test: Annotated[float | None, "test accuracy", SHARE]
    curve: Annotated[
        list[dict[str, Any]] | None,
        "each candidate's hparams and top1_val; null in the log itself",
    ] = field(repr=False)
    store_key: Annotated[str, "digest of the stores this row read"]
    stores: Annotated[dict[str, str], "store -> key digest"]
    labels: Annotated[str, "digest of labels and class names"]
    protocol_version: Annotated[int, "raised whenever draws, choice or scoring change"]
    seconds: Annotated[float, "stack_seconds over stack_size", COUNT]
    stack_seconds: Annotated[
        float, "time to fit, choose and score the stacks this row ran in", COUNT
    ]
    stack_size: Annotated[int, "variants in those stacks", COUNT]
    device: Annotated[str, "device it ran on"]
    precision: Annotated[str | None, "of the products of its training steps: fp32 or bf16"]
    version: Annotated[str, "cacheclip's version"]
    time: Annotated[str, "when the row was written, UTC"]
    error: Annotated[str | None, "why this cell has no result"] = None
    ci95_test: Annotated[
        list[float] | None, "95 % Wilson interval of top1_test, [low, high]", SHARE
    ] = None
    macro_test: Annotated[
        float | None, "mean recall of the classes that have test images", SHARE
    ] = None
    constant_test: Annotated[
        float | None,
        "test accuracy of always answering the most frequent class of the test images",
        SHARE,
    ] = None
    zero_shot_test: Annotated[
        float | None, "test accuracy of zero-shot on the same images; null without text", SHARE
    ] = None
    untested: Annotated[list[str] | None, "names of the classes that have no test images"] = None
    temperature: Annotated[
        float | None,
        "what divides the logits before the softmax; null where too little is there",
        COUNT,
    ] = None
    n_calibration: Annotated[int, "labelled images that the temperature was fitted on", COUNT] = 0
    calibrated_on: Annotated[str | None, "which images those are"] = None
    ece_test: Annotated[
        float | None, "debiased calibration error on the test images, at that temperature", SHARE
    ] = None
    ece_test_raw: Annotated[float | None, "the same of the logits as they come", SHARE] = None
    nll_test: Annotated[float | None, "mean negative log probability of the test labels", COUNT] = (
        None
    )
    nll_test_raw: Annotated[float | None, "the same of the logits as they come", COUNT] = None
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
    labels_corrected: Annotated[
        bool, "whether labels or class names were corrected by hand in labels.json"
    ] = False
    predictions: Annotated[str | None, "SHA-256 of the file of what it answered"] = None
    choice_version: Annotated[
        int, "raised whenever what policies choose changes; 1 where nothing chose"
    ] = 1
    text_norm: Annotated[
        float | None, "mean norm of the class text, where the method's constants follow it", COUNT
    ] = None
    setting: Annotated[
        str | None,
        "what an answer depends on: inductive, its picture alone; transductive, the whole test "
        "set; online, the pictures before it",
    ] = None
    constants: Annotated[
        bool | None, "whether hparams are the method's own constants; null where a policy chose"
    ] = None
    given: Annotated[
        dict[str, list[float | int | str]] | None,
        "settings that the user gave, with the values that competed; null: nobody noted it",
    ] = None
    chosen_on: Annotated[
        str | None, "which labelled images chose the settings; null where nothing chose"
    ] = None
    learned_classes: Annotated[
        str | None,
        "classes that it learned from, where it is tested on others or on another data set; it "
        "read no shot of those unless eval_draw_id is there",
    ] = None
    classnames: Annotated[
        list[str] | None,
        "names of the classes that count, where classes is K-of-C-DIGEST; null: nobody noted them",
    ] = None
    eval_draw_id: Annotated[
        str | None,
        "draw of the classes tested on, whose shots it read without learning from them; null where "
        "it read none",
    ] = None

    @cached_property
    def row_id(self) -> str:
        """Digest of all that decides the result, known before it runs.

        What a policy chose follows from its candidates, so they count in the place of its choice.
        """
        given = (name for name, default in DECIDES_IF_GIVEN if getattr(self, name) != default)
        return digest({name: getattr(self, name) for name in (*DECIDES, *given)})[:16]

    def as_json(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        return {"row_id": self.row_id} | asdict(self)


# What decides the result of a row.
DECIDES = (
    *("dataset", "eval_dataset", "classes", "template", "method", "method_version", "recipe"),
    *("candidates", "shots", "seed", "init_seed", "select", "draw", "draw_id", "test_id", "views"),
    *("keys", "stores", "labels", "protocol_version"),
)


# Younger than the log: at its default such a field leaves the id of a row what it was without it.
DECIDES_IF_GIVEN = (
    *(("fewer", "error"), ("choice_version", 1), ("learned_classes", None)),
    ("eval_draw_id", None),
)

_FIELDS = frozenset(field.name for field in fields(Row))


def documented() -> dict[str, str]:
    """Every JSON field and what it says, in order."""
    own = {"row_id": "digest of all that decides the result"}
    hints = get_type_hints(Row, include_extras=True)
    return own | {name: hint.__metadata__[0] for name, hint in hints.items()}


def rows(
    home: Path,
    row_ids: Collection[str] | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> dict[str, Row]:
    """The last row of each id in the log of a home folder, failed ones left out.

    Args:
        home: the folder.
        row_ids: the ids that are looked for; by default all, in the order of the log.
        notice: called with a line for the user where lines of the log cannot be read.

    Raises:
        StoreError: the log cannot be read, or a newer cacheclip wrote one of these rows.
    """
    log = home / LOG
    wanted = None if row_ids is None else {b"", *(row_id.encode() for row_id in row_ids)}
    lines, left_out = read_log(log, lambda line: wanted is None or _id_in(line) in wanted)
    found: dict[str, Row] = {}
    for line in lines:
        row = _row(line, log)
        if row is None:
            left_out += 1
        elif row.error is None and (row_ids is None or row.row_id in row_ids):
            found.pop(row.row_id, None)
            found[row.row_id] = row
    for text in lines_left_out(log, left_out):
        notice(text)
    return found


def _id_in(line: bytes) -> bytes:
    """The id of the row in a line, without reading all of it: most are long and not wanted."""
    key = line.find(b'"row_id": "')
    return line[key + 11 : key + 27] if key >= 0 else b""


def _row(line: dict[str, Any], log: Path) -> Row | None:
    """The row that a line of the log holds; None where it is no row, or lacks what decides."""
    if type(version := line.get("format", FORMAT)) is int and version > FORMAT:
        raise StoreError(
            "a row was written by a newer cacheclip",
            where=str(log),
            fix=f"{UPGRADE}, or add {argument('results')} FOLDER for a log of its own",
        )
    if wrong_field(Row, line) is not None:
        return None
    try:
        row = Row(**{name: line[name] for name in _FIELDS & set(line)})
    except TypeError:
        return None
    return row if row.row_id == line.get("row_id") else None


def append(home: Path, rows: Sequence[Row]) -> int:
    """Add rows to the log of a home folder in one write; nothing is ever overwritten.

    Returns:
        How many bytes the log has grown by.
    """
    lines = (sealed({**row.as_json(), "format": FORMAT}) for row in rows)
    text = "\n".join(json.dumps(line, allow_nan=False) for line in lines)
    append_line(home / LOG, text, option=argument("results"))
    return len(text) + 1
