"""Why a fit has its settings: what was tried, what that was worth, and what zero-shot gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cacheclip.methods.base import Settings
from cacheclip.select.base import mean_log_p
from cacheclip.study.race import Race, Ranking
from cacheclip.study.table import Table, percent, short

MOST = 12  # lines of the table, beside those that are told apart

CHOSEN, CONSTANTS, ZERO_SHOT, LIKELIEST = "chosen", "constants", "zero-shot", "likeliest"


@dataclass(frozen=True)
class Tried:
    """Settings that were tried, on the n pictures that the choice looked at.

    Attributes:
        settings: those that differ among what was tried.
        share: of the pictures that are right.
        nll: mean negative log probability of the labels, at the best temperature.
        gain: how much likelier than the start the labels are, a picture, and its standard error.
        plateau: whether it is within one standard error of the likeliest.
        marks: what else it is: chosen, constants, zero-shot, likeliest.
    """

    settings: Settings
    share: float
    nll: float
    gain: tuple[float, float]
    plateau: bool
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """All that was tried, the nearest to zero-shot first.

    Attributes:
        n: pictures that the choice looked at.
        start: what another setting had to beat by more than one standard error.
        tried: P settings.
    """

    n: int
    start: str
    tried: Sequence[Tried]

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        points = [
            {
                "hparams": dict(one.settings),
                "top1": one.share,
                "nll": round(one.nll, 6),
                "gain": [round(x, 6) for x in one.gain],
                "plateau": one.plateau,
                "marks": list(one.marks),
            }
            for one in self.tried
        ]
        return {"n": self.n, "start": self.start, "tried": points}


def explained(race: Race) -> Choice | None:
    """The choice of a race; None where nothing was chosen between."""
    if not race.decided or race.front is None:
        return None
    ranking = race.ranking
    log_p, points = ranking.log_p, ranking.points
    likeliest = int(mean_log_p(log_p).argmax())
    start = _start(ranking)
    told = {
        CHOSEN: points.index(race.front),
        CONSTANTS: ranking.constant if _is_constant(race, ranking) else None,
        ZERO_SHOT: ranking.zero_shot,
        LIKELIEST: likeliest,
    }
    varied = [n for n in points[0].settings if len({p.settings.get(n) for p in points}) > 1]
    tried = [
        Tried(
            settings={name: point.settings[name] for name in varied},
            share=point.hits / log_p.shape[1],
            nll=-float(log_p[k].mean()),
            gain=_gain(log_p[k], log_p[start]),
            plateau=k == likeliest or _within(log_p[likeliest], log_p[k]),
            marks=tuple(mark for mark, where in told.items() if where == k),
        )
        for k, point in enumerate(points)
    ]
    zero_shot = start == ranking.zero_shot and start != ranking.constant
    return Choice(log_p.shape[1], ZERO_SHOT if zero_shot else CONSTANTS, tried)


def table(choice: Choice) -> Table:
    """What was tried; of many settings the likeliest, beside those that are marked."""
    names = list(choice.tried[0].settings)
    likeliest = sorted(choice.tried, key=lambda one: one.nll)[:MOST]
    shown = [one for one in choice.tried if one.marks or one in likeliest]
    lines = [
        [
            *(short(one.settings[name]) for name in names),
            percent(one.share),
            f"{one.nll:.3f}",
            f"{one.gain[0]:+.3f} ± {one.gain[1]:.3f}",
            ", ".join([*one.marks, *(["plateau"] if one.plateau else [])]),
        ]
        for one in shown
    ]
    return [*names, "%", "nll", f"likelier than {choice.start}", ""], lines


def sentences(choice: Choice | None, zero_shot_test: float | None) -> Iterator[str]:
    """The rule, what won by it, how wide the plateau is, and what zero-shot would have given."""
    if choice is None:
        yield "nothing was chosen: the constants and what was given stand"
        return
    marked = {mark: one for one in choice.tried for mark in one.marks}
    won = marked[CHOSEN]
    gain, error = won.gain
    by = f": likelier than {choice.start} by {gain:.3f} ± {error:.3f} a picture"
    stays = choice.start in won.marks
    yield (
        f"chosen on {choice.n} labelled pictures: {_written(won)}"
        + (f": {choice.start}, which nothing beats by a standard error" if stays else by)
    )
    within = [one for one in choice.tried if one.plateau]
    yield (
        f"plateau: {len(within)} of {len(choice.tried)} settings within one standard error of the "
        f"likeliest, {_span(within)}"
    )
    if ZERO_SHOT in marked:
        tested = "" if zero_shot_test is None else f", {percent(zero_shot_test)} % of the test ones"
        yield f"zero-shot: {percent(marked[ZERO_SHOT].share)} % of these pictures{tested}"


def _is_constant(race: Race, ranking: Ranking) -> bool:
    """Whether the constants were tried: settings that were given may have left them out."""
    return ranking.points[ranking.constant].settings == race.cell.constant


def _start(ranking: Ranking) -> int:
    """What others must beat: the constants, or zero-shot where that is likelier."""
    mean = mean_log_p(ranking.log_p)
    if ranking.zero_shot is not None and mean[ranking.zero_shot] > mean[ranking.constant]:
        return ranking.zero_shot
    return ranking.constant


def _gain(log_p: Tensor, start: Tensor) -> tuple[float, float]:
    """The mean of a difference [n], and its standard error."""
    gain = log_p - start
    error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
    return float(gain.mean()), error


def _within(likeliest: Tensor, log_p: Tensor) -> bool:
    behind, error = _gain(likeliest, log_p)
    return behind <= error


def _written(one: Tried) -> str:
    return " ".join(f"{name}={short(value)}" for name, value in one.settings.items())


def _span(tried: Sequence[Tried]) -> str:
    """Settings and the values that these have, from the least to the greatest."""
    said = []
    for name in tried[0].settings:
        values = [one.settings[name] for one in tried]
        numbers = sorted(value for value in values if not isinstance(value, str))
        words = sorted({value for value in values if isinstance(value, str)})
        ends = [short(numbers[0]), short(numbers[-1])] if numbers else []
        said.append(
            f"{name} " + " or ".join([" to ".join(dict.fromkeys(ends))] * bool(ends) + words)
        )
    return ", ".join(said)
