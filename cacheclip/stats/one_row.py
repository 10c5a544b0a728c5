"""One row of the log in full: what it measured, and on which classes and pictures it was wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from cacheclip.answers import Predictions
from cacheclip.errors import CacheclipError, StoreError, some
from cacheclip.files.disk import digest
from cacheclip.metrics import calibration_interval, wilson
from cacheclip.results import LOG, Row
from cacheclip.stats.comparable import classes_of
from cacheclip.store.home import Home
from cacheclip.store.labels import Labels
from cacheclip.store.scope import ALL, BASE, NEW, scoped
from cacheclip.study.table import Table, named, percent, short

Measures = dict[str, Any]

TOP = 5

NAMES = {
    "top1": "top-1 accuracy, %",
    "top5": "top-5 accuracy, %",
    "macro": "macro accuracy, %",
    "ece": "calibration error, %",
    "ece_raw": "the same of the logits as they come, %",
    "nll": "negative log-likelihood",
    "nll_raw": "the same of the logits as they come",
}


def row_named(rows: Sequence[Row], row_id: str | None, root: Path, option: str) -> Row:
    """The row whose id begins like that; by default the one logged last.

    Raises:
        StoreError: there is none, or several.
    """
    tested = [row for row in rows if row.top1_test is not None]
    meant = [row for row in tested if row.row_id.startswith(row_id)] if row_id else tested[-1:]
    if len(meant) == 1:
        return meant[0]
    if not tested:
        fix = f"cacheclip compare{option}"
    else:
        newest = [f"{row.row_id} ({brief(row)})" for row in reversed(meant or tested)]
        fix = f"name one, the last logged first: {some(newest)}"
    begin = f"begin with {row_id}" if row_id else "are there"
    raise StoreError(f"{len(meant) or 'no'} rows {begin}", where=str(root / LOG), fix=fix)


def brief(row: Row) -> str:
    """What a row is, in a list of them."""
    unit = "shot" if row.shots == 1 else "shots"
    return named(row) + (f", {row.shots} {unit}, seed {row.seed}" if row.shots else "")


def class_names(row: Row, home: Home) -> tuple[list[str], list[str]]:
    """The names of the row's classes, and a notice where they are numbers for want of names."""
    if row.classnames:
        return list(row.classnames), []
    if row.classes not in (ALL, BASE, NEW):
        why = f"this row was logged before rows named those of {row.classes}"
    else:
        try:
            labels = _labels(row.eval_dataset, row.classes, row, home)
            sha256 = labels.digest
            if row.eval_dataset != row.dataset:
                learned = _labels(row.dataset, row.learned_classes or ALL, row, home)
                sha256 = digest([learned.digest, sha256])
            if sha256 == row.labels:
                return list(labels.classnames), []
            why = f"the features of {row.eval_dataset} have other labels now"
        except CacheclipError:
            why = f"the features of {row.eval_dataset} are not here, or were cut"
    return [str(k) for k in range(row.n_classes)], [f"classes go by their numbers: {why}"]


def _labels(dataset: str, classes: str, row: Row, home: Home) -> Labels:
    """The labels of all classes of a data set, or of half of them, by the row's encoder."""
    return scoped(home.find(dataset, row.model, row.pretrained), [classes]).labels


def measures(row: Row, answers: Predictions) -> Measures:
    """Each measure's value and 95 % interval, None where there is none or it tells nothing.

    Fractions.
    """
    n = len(answers.label)
    top5 = float((answers.true_rank < TOP).mean())
    right = answers.predicted == answers.label
    calibrated = calibration_interval(answers.top_p, right)
    raw = None if answers.raw_top_p is None else calibration_interval(answers.raw_top_p, right)
    found: Measures = {
        "top1": (row.top1_test, wilson(row.top1_test or 0.0, n)),
        "top5": (top5, wilson(top5, n)),
        "macro": (row.macro_test, None),
        "ece": (row.ece_test, calibrated),
        "ece_raw": (row.ece_test_raw, raw),
        "nll": (row.nll_test, None),
        "nll_raw": (row.nll_test_raw, None),
    }
    return {
        name: {"value": value, "ci95": list(ci95) if _holds(ci95, value) else None}
        for name, (value, ci95) in found.items()
    }


def _holds(ci95: tuple[float, float] | None, value: float | None) -> TypeGuard[tuple[float, float]]:
    """Whether an interval is one: from half precision, or of too few pictures, it may miss."""
    return ci95 is not None and value is not None and ci95[0] <= value <= ci95[1]


def table(found: Measures, n_classes: int) -> Table:
    """The same for people; of five classes each is among the first five."""
    cells = []
    for name, own in found.items():
        if name == "top5" and n_classes <= TOP:
            continue
        shares = NAMES[name].endswith("%")
        value = own["value"]
        shown = percent(value) if shares or value is None else f"{value:.3f}"
        ci95 = own["ci95"]
        cells.append(
            [NAMES[name], shown, _none(name) if ci95 is None else "-".join(map(percent, ci95))]
        )
    return ["measure", "value", "95 %"], cells


def _none(name: str) -> str:
    """What stands for an interval: nothing where the measure has none."""
    return "-" if name.startswith("ece") else ""


def about(row: Row) -> Iterator[str]:
    """Which row it is, and what its probabilities are worth."""
    policy = f", --select {row.select}" if row.shots else ""
    settings = ", ".join(f"{name}={short(value)}" for name, value in row.hparams.items())
    by = f"by {row.model}@{row.pretrained}"
    classes = "" if classes_of(row) == ALL else f", classes {classes_of(row)}"
    learned = "" if row.eval_dataset == row.dataset else f", learned from {row.dataset},"
    on = f"on {row.eval_dataset}{classes}{learned}"
    yield f"row {row.row_id}: {brief(row)}{policy} {on} {by}"
    yield f"settings: {settings or 'none'}"
    if row.temperature is not None:
        on = f"fitted on {row.n_calibration} {row.calibrated_on}"
        yield f"probabilities at temperature {row.temperature:.3g}, {on}"
