"""Run the cells of a block: fit its stacks, choose by validation accuracy, and only then score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

from torch import Tensor

from cacheclip.answers import Answered
from cacheclip.draws import Draw
from cacheclip.engine.memory import is_exhausted
from cacheclip.errors import CacheclipError, FitError, MachineError
from cacheclip.heads.temperature import label_log_p
from cacheclip.metrics import hits
from cacheclip.study.calibration import Calibration, calibrate, on_choice
from cacheclip.study.data import SetData
from cacheclip.study.heads import Heads, fit, held_out, served, together
from cacheclip.study.plan import Block, Cell, Stack, Variant
from cacheclip.study.race import Point, Race
from cacheclip.study.score import Scores, score
from cacheclip.task import Query

COPIES = 6  # of the validation logits that likelihood works on at once


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: its winner with what it serves, or why there is none."""

    race: Race
    result: Heads | CacheclipError
    calibration: Calibration | None = None  # of the winner
    scores: Scores | None = None  # of the winner alone
    choice: Answered | None = None  # of the winner, for the pictures that it was chosen on

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.race.cell

    @property
    def draw(self) -> Draw | None:
        """What it learned from; None where there is nothing or no draw could be made."""
        return None if isinstance(self.cell.draw, CacheclipError) else self.cell.draw

    @property
    def learned(self) -> dict[str, float]:
        """What the winner found for settings given as `learned`, by name."""
        winner = self.race.winner  # with what it learned, where `result` has what it serves
        return winner.method.learned(winner.params) if winner else {}

    @property
    def temperature(self) -> float:
        """What the winner's logits are divided by; 1 where there was too little to fit it on."""
        return self.calibration.temperature if self.calibration else 1.0


def run(
    block: Block,
    data: SetData,
    progress: Callable[[float], None],
    notice: Callable[[str], None],
    *,
    anew: bool = False,
    keep_logits: bool = False,
) -> list[Outcome]:
    """All cells of the block, in order; a cell that fails says so and the others go on.

    Args:
        block: cells of one method and shot count, with their draws.
        data: the feature set.
        progress: called with the share of the block that is done.
        notice: called with a line for the user.
        anew: see `calibrate`.
        keep_logits: whether what the winners answer is to have all logits.
    """
    races = [Race(block.method, block.policy, cell) for cell in block.cells]
    entered = {variant: race for race in races for variant in race.cell.variants}
    done = 0
    for stack in block.stacks:

        def advance(share: float, done: int = done, size: int = len(stack.variants)) -> None:
            progress((done + share * size) / len(entered))

        _run_stack(block, stack, data, entered, advance, notice)
        done += len(stack.variants)
        progress(done / len(entered))
    keep = {"keep_logits": keep_logits}
    outcomes = [_settled(block, race, data, anew=anew, **keep) for race in races]
    return _scored(outcomes, block, data, **keep) if data.tested else outcomes


def _run_stack(
    block: Block,
    stack: Stack,
    data: SetData,
    races: Mapping[Variant, Race],
    progress: Callable[[float], None],
    notice: Callable[[str], None],
) -> None:
    """Fit a stack's variants, chunk by chunk, and let each take part in its cell's race.

    A variant that is not finite never enters, so it cannot win or push another out.
    """
    start = perf_counter()
    missing = list(stack.variants)
    try:
        with _in_words(block, data):
            method = block.method(**stack.static)
            for heads in fit(method, stack.variants, data, progress, notice):
                for rivals in heads.where(heads.finite()).by_cell():
                    race = races[rivals.variants[0]]
                    race.enter(rivals, _tried(rivals, race, data))
                del missing[: len(heads.variants)]
    except CacheclipError as error:
        for variant in missing:
            races[variant].error = error
    seconds = perf_counter() - start
    for race in {id(race): race for race in map(races.__getitem__, stack.variants)}.values():
        race.seconds += seconds
        race.size += len(stack.variants)


@contextmanager
def _in_words(block: Block, data: SetData) -> Iterator[None]:
    """Say of memory that ran out what it ran out on."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_exhausted(error):
            raise
        raise MachineError(
            f"out of memory with one variant of {block.method.name}",
            where=f"{block.shots} shots, device {data.device}",
            fix="close other programs, or use a machine with more memory",
        ) from error


def _tried(rivals: Heads, race: Race, data: SetData) -> Sequence[Sequence[Point]]:
    """What a cell's variants do on its validation pictures; nothing where none are looked at."""
    draw = rivals.variants[0].draw
    if not race.policy.selects or draw is None or not draw.val:
        return [()] * len(rivals.variants)
    query, labels = held_out(rivals.method, "val", draw.val, draw.val_labels, data)
    return _searched(rivals, query, labels) or _validated(rivals, query, labels, data)


def _searched(rivals: Heads, query: Query, labels: Tensor) -> list[list[Point]]:
    """All points of each variant's search; none at all where nothing is to be searched."""
    found = rivals.method.search(rivals.params, query, labels)
    if found is None:
        return []
    return [
        [
            Point(
                variant,
                {**variant.settings, **{n: x[v][t].item() for n, x in found.settings.items()}},
                int(found.hits[v][t]),
                found.log_p[v][t],
            )
            for t in range(found.hits.shape[1])
        ]
        for v, variant in enumerate(rivals.variants)
    ]


def _validated(rivals: Heads, query: Query, labels: Tensor, data: SetData) -> list[list[Point]]:
    """Each variant's own settings, as many variants at a time as memory has room for."""
    one = COPIES * 4 * len(labels) * len(data.classnames)  # bytes
    at_once = max(1, data.limit // one)
    points: list[list[Point]] = []
    for first in range(0, len(rivals.variants), at_once):
        heads = served(rivals.part(first, first + at_once), data)
        logits = heads.answers(query, data.limit)[:, : len(labels)]  # [V, n, C]
        right, log_p = hits(logits, labels).tolist(), label_log_p(logits, labels)
        points += [
            [Point(variant, variant.settings, right[v], log_p[v])]
            for v, variant in enumerate(heads.variants)
        ]
    return points


def _settled(block: Block, race: Race, data: SetData, *, anew: bool, keep_logits: bool) -> Outcome:
    """What became of a cell, before it is scored."""
    if isinstance(race.cell.draw, CacheclipError):
        return Outcome(race, race.cell.draw)
    if race.error or race.winner is None:
        return Outcome(race, race.error or _not_finite(race.cell))
    try:
        with _in_words(block, data):
            winner = served(race.winner, data)
            found = calibrate(winner, race, data, anew=anew, keep_logits=keep_logits)
            outcome = Outcome(race, winner, found)
            if not data.tested:
                return outcome
            T = outcome.temperature
            choice = on_choice(winner, race, T, data, keep_logits=keep_logits)
            return replace(outcome, choice=choice)
    except CacheclipError as error:
        return Outcome(race, error)


def _not_finite(cell: Cell) -> FitError:
    settings = cell.candidates[0]
    return FitError(
        "the fit is not finite or did not converge",
        where=", ".join(f"{name}={value}" for name, value in settings.items()),
        fix="use a smaller lr" if "lr" in settings else "use less extreme settings",
    )


def _scored(
    outcomes: Sequence[Outcome], block: Block, data: SetData, *, keep_logits: bool
) -> list[Outcome]:
    """The outcomes with test results; winners that share static settings are scored together."""
    won = {o.result.variants[0]: o for o in outcomes if isinstance(o.result, Heads)}
    settled = [o.result for o in won.values() if isinstance(o.result, Heads)]
    for heads in together(settled, data.limit):
        start = perf_counter()
        own = [won[variant] for variant in heads.variants]
        try:
            with _in_words(block, data):
                warmth = [outcome.temperature for outcome in own]
                scores = score(
                    *(heads.method, heads.params, data, warmth, heads.seeds),
                    keep_logits=keep_logits,
                )
            told = [replace(outcome, scores=scores.of(w)) for w, outcome in enumerate(own)]
        except CacheclipError as error:
            told = [Outcome(outcome.race, error) for outcome in own]
        seconds = perf_counter() - start
        for variant, outcome in zip(heads.variants, told, strict=True):
            outcome.race.seconds += seconds
            won[variant] = outcome
    return [won[o.result.variants[0]] if isinstance(o.result, Heads) else o for o in outcomes]
