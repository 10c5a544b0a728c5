"""One fit as people read it: beside what costs nothing, and with what its number is worth."""

from collections.abc import Iterator, Sequence

from cacheclip.draws import ALL
from cacheclip.methods import base as methods
from cacheclip.methods.base import LOGIT_SCALE, TEXT_NORM, norm_counts
from cacheclip.metrics import macro, wilson
from cacheclip.results import Row
from cacheclip.study.fit import Fitted
from cacheclip.study.table import Table, honest, named, percent, short

ZERO_SHOT = "zero-shot"
ENOUGH = 50  # test pictures for a calibration error
WIDE = 0.1  # how far the mean confidence may be off before a fit says so


def table(fitted: Fitted) -> Table:
    """The fit, zero-shot and the constant answer.

    Macro accuracy stands there where the classes have unequal numbers of test pictures.
    """
    row, scores = fitted.row, fitted.scores
    headers = ["method", "select", "shots", "val %", "val n", "test %", "95 %", "test n", "macro %"]
    drawn = [row.select, str(row.shots)] if row.shots else ["-", "-"]
    validated = [percent(row.top1_val), str(row.n_val) if row.n_val else "-"]
    own = [*drawn, *validated, *_tested(row.top1_test, row.n_test), percent(row.macro_test)]
    cells = [[named(row), *own]]
    beside = ["-"] * 4
    if row.zero_shot_test is not None and scores.zero_shot is not None and row.method != ZERO_SHOT:
        recall = percent(macro(scores.zero_shot == scores.label, scores.label))
        cells.append([ZERO_SHOT, *beside, *_tested(row.zero_shot_test, row.n_test), recall])
    recall = percent(1 / (row.n_classes - len(row.untested or ())))
    always = f"always {fitted.commonest}"
    cells.append([always, *beside, *_tested(row.constant_test, row.n_test), recall])
    if not fitted.unequal:
        headers, cells = headers[:-1], [line[:-1] for line in cells]
    return headers, cells


def notes(fitted: Fitted) -> Iterator[str]:
    """The settings, what is to be known of the test pictures, and at most one warning."""
    row = fitted.row
    yield f"settings: {settings(fitted)}"
    if row.learned:
        yield "learned: " + " ".join(f"{name}={short(x)}" for name, x in row.learned.items())
    if row.border:
        ends = " and ".join(f"{name}={short(row.hparams[name])}" for name in row.border)
        yield f"at the end of what was tried: {ends}"
    yield probabilities(row)
    yield from honest(row)
    yield from warning(row)


def probabilities(row: Row) -> str:
    """What the probabilities of this fit are worth; of few test pictures an error says nothing."""
    measured = row.n_test >= ENOUGH
    if row.temperature is None:
        error = f", error {row.ece_test:.2f} on the test pictures" if measured else ""
        return f"probabilities: too few labelled pictures to calibrate on{error}"
    error = f", error {row.ece_test:.2f} on the test pictures ({row.ece_test_raw:.2f} before)"
    few = ""
    if (row.calibrated_within or 0.0) > WIDE:
        few = f", too few to know their mean better than ±{row.calibrated_within:.2f}"
    return (
        f"probabilities: calibrated on {row.n_calibration} pictures{few}{error if measured else ''}"
    )


def settings(fitted: Fitted) -> str:
    """All settings of the row; those that follow the encoder say so."""
    norm = fitted.row.text_norm
    norm = norm if norm is not None and norm_counts(norm) else None
    there = f"logit scale {LOGIT_SCALE:g}" + (f" and text norm {TEXT_NORM:g}" if norm else "")
    here = f"{fitted.logit_scale:.3g}" + (f" and {norm:.3g}" if norm else "")
    said = []
    for name, value in fitted.row.hparams.items():
        why = ""
        if name in fitted.rescaled:
            published = short(fitted.rescaled[name])
            why = f" ({published} at {there}, here {here})"
        said.append(f"{name}={short(value)}{why}")
    return " ".join(said) or "none"


def warning(row: Row) -> Iterator[str]:
    """A line where the fit is worse than what costs nothing, with what to try."""
    floors = {f"always answering one class ({percent(row.constant_test)})": row.constant_test}
    if row.method != ZERO_SHOT:
        floors = {f"zero-shot ({percent(row.zero_shot_test)})": row.zero_shot_test} | floors
    own = row.top1_test or 0.0
    above = {name: floor for name, floor in floors.items() if floor is not None and own < floor}
    if above:
        _, high = wilson(own, row.n_test)
        chance = ", though within its interval" if max(above.values()) <= high else ""
        yield f"warning: below {' and '.join(above)}{chance}: {_next(row, list(above))}"


def _next(row: Row, above: Sequence[str]) -> str:
    """What to try where a fit is below these."""
    if not above[0].startswith(ZERO_SHOT):
        return "--per-class shows which classes are missed"
    steps = ["more --shots"] if row.shots != ALL else []
    if not methods.get(row.method).of(row.hparams).reads.text:
        steps.insert(0, "a method that reads the text, such as --method tip-adapter")
    elif row.n_val:
        steps.insert(0, "--select fixed")
    before = f"{', '.join(steps)} or " if steps else ""
    return f"try {before}--method {ZERO_SHOT}"


def _tested(share: float | None, n: int) -> list[str]:
    """A test accuracy with its interval and n."""
    low, high = wilson(share or 0.0, n)
    return [percent(share), f"{100 * low:.1f}-{100 * high:.1f}", str(n)]
