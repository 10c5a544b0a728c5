"""Why a fit has its settings: what was tried, what that was worth, and what zero-shot gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cacheclip.methods.base import Settings
from cacheclip.results import Row
from cacheclip.select.base import mean_log_p
from cacheclip.study.race import Race, Ranking
from cacheclip.study.rows import ONE_EACH, TESTED
from cacheclip.study.table import Table, percent, short

MOST = 12  # lines of the table, beside those that are told apart

CHOSEN, CONSTANTS, ZERO_SHOT, LIKELIEST = "chosen", "constants", "zero-shot", "likeliest"
NOTHING = "nothing: what was given and the constants stand"
FIRST = "the first value"  # where the settings that were given leave the constants out


@dataclass(frozen=True)
class Tried:
    """Settings that were tried, on the n pictures that the choice looked at.

    Attributes:
        settings: those that differ among what was tried.
        share: of the pictures that are right.
        nll: mean negative log probability of the labels, at the best temperature; None where the
            hits alone ruled it out, and then there is no gain either.
        gain: how much likelier than the start the labels are, a picture, and its standard error.
        plateau: whether it is within one standard error of the likeliest.
        marks: what else it is: chosen, constants, zero-shot, likeliest.
    """

    settings: Settings
    share: float
    nll: float | None
    gain: tuple[float, float] | None
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
                "nll": None if one.nll is None else round(one.nll, 6),
                "gain": None if one.gain is None else [round(x, 6) for x in one.gain],
                "plateau": one.plateau,
                "marks": list(one.marks),
            }
            for one in self.tried
        ]
        return {"n": self.n, "start": self.start, "tried": points}


def explained(race: Race) -> Choice | None:
    """The choice of a race; None where nothing was chosen between, or the test pictures chose."""
    if not race.decided or race.front is None or race.policy.held == "test":
        return None
    ranking = race.ranking
    log_p, points = ranking.log_p, ranking.points
    likeliest = int(mean_log_p(log_p).argmax())
    start = race.policy.start(log_p, ranking.constant, ranking.zero_shot)
    constants = _is_constant(race, ranking)
    finite = log_p.isfinite().all(1).tolist()
    told = {
        CHOSEN: points.index(race.front),
        CONSTANTS: ranking.constant if constants else None,
        ZERO_SHOT: ranking.zero_shot,
        LIKELIEST: likeliest,
    }
    varied = [n for n in points[0].settings if len({p.settings.get(n) for p in points}) > 1]
    tried = [
        Tried(
            settings={name: point.settings[name] for name in varied},
            share=point.hits / log_p.shape[1],
            nll=-float(log_p[k].mean()) if finite[k] else None,
            gain=_gain(log_p[k], log_p[start]) if finite[k] and finite[start] else None,
            plateau=k == likeliest or (finite[k] and _within(log_p[likeliest], log_p[k])),
            marks=tuple(mark for mark, where in told.items() if where == k),
        )
        for k, point in enumerate(points)
    ]
    named = CONSTANTS if constants else FIRST
    if start == ranking.zero_shot and (start != ranking.constant or not constants):
        named = ZERO_SHOT
    return Choice(log_p.shape[1], named, tried)


def table(choice: Choice) -> Table:
    """What was tried, by rising values; of many the likeliest, beside those that are marked."""
    names = list(choice.tried[0].settings)
    lines = [
        [
            *(short(one.settings[name]) for name in names),
            percent(one.share),
            "-" if one.nll is None else f"{one.nll:.3f}",
            "-" if one.gain is None else f"{one.gain[0]:+.3f} ± {one.gain[1]:.3f}",
            ", ".join([*one.marks, *(["plateau"] if one.plateau else [])]),
        ]
        for one in _shown(choice)
    ]
    return [*names, "%", "nll", f"likelier than {choice.start}", ""], lines


def title(choice: Choice) -> str:
    """What the table shows, and of how many settings."""
    return f"what was tried ({len(_shown(choice))} of {len(choice.tried)})"


def sentences(choice: Choice | None, row: Row) -> Iterator[str]:
    """The rule, what won by it, how wide the plateau is, and what zero-shot would have given."""
    if choice is None:
        because = row.chosen_on if row.chosen_on in (ONE_EACH, TESTED) else NOTHING
        yield f"chosen on {because}"
        return
    marked = {mark: one for one in choice.tried for mark in one.marks}
    won = marked[CHOSEN]
    gain, error = won.gain or (0.0, 0.0)
    by = f": likelier than {choice.start} by {gain:.3f} ± {error:.3f} a picture"
    stays = gain == 0.0 and error == 0.0
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
        test = row.zero_shot_test
        tested = "" if test is None else f", {percent(test)} % of the test ones"
        yield f"zero-shot: {percent(marked[ZERO_SHOT].share)} % of these pictures{tested}"


def _shown(choice: Choice) -> list[Tried]:
    """The likeliest and those that are marked, by rising values."""
    judged = [one for one in choice.tried if one.nll is not None]
    likeliest = sorted(judged, key=lambda one: one.nll or 0.0)[:MOST]
    shown = [one for one in choice.tried if one.marks or one in likeliest]
    return sorted(shown, key=lambda one: [(isinstance(x, str), x) for x in one.settings.values()])


def _is_constant(race: Race, ranking: Ranking) -> bool:
    """Whether the constants were tried: settings that were given may have left them out."""
    return ranking.points[ranking.constant].settings == race.cell.constant


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
