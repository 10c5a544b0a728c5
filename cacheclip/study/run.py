"""Run the cells of a block: fit its stacks, choose on held-out pictures, and only then score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

from cacheclip.answers import Answered
from cacheclip.draws import Draw
from cacheclip.engine.memory import is_exhausted
from cacheclip.errors import CacheclipError, FitError, MachineError
from cacheclip.study.calibration import Calibration, calibrate, on_choice
from cacheclip.study.data import SetData
from cacheclip.study.evidence import in_folds, on_folds, on_validation
from cacheclip.study.heads import Heads, fit, served, together
from cacheclip.study.plan import Block, Cell, Stack, stacks as stacks_of
from cacheclip.study.race import Race
from cacheclip.study.score import Scores, on_test, score
from cacheclip.study.targets import Target


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: its winner with what it serves, or why there is none."""

    race: Race
    result: Heads | CacheclipError
    calibration: Calibration | None = None  # of the winner
    scores: Scores | None = None  # of the winner alone
    choice: Answered | None = None  # of the winner, for the pictures that it was chosen on
    elsewhere: tuple[Scores, ...] = ()  # the same on each target

    def at(self, target: int) -> "Outcome":
        """The outcome as one target sees it; -1 for the classes that were learned."""
        if target < 0 or not isinstance(self.result, Heads):
            return self
        return replace(self, scores=self.elsewhere[target])

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
    targets: Sequence[Target] = (),
) -> list[Outcome]:
    """All cells of the block, in order; a cell that fails says so and the others go on.

    Args:
        block: cells of one method and shot count, with their draws.
        data: the feature set.
        progress: called with the share of the block that is done.
        notice: called with a line for the user.
        anew: see `calibrate`.
        keep_logits: whether what the winners answer is to have all logits.
        targets: what the winners are tested on beside the classes that they learned from.
    """
    races = [Race(block.method, block.policy, cell) for cell in block.cells]
    by_cell = {id(race.cell): race for race in races}
    by_folds = block.policy.held == "folds"
    entrants = block.stacks
    total = sum(len(stack.variants) for stack in entrants) + by_folds * len(races)
    done = 0

    def fit_all(stacks: Sequence[Stack], enter: Callable[[Heads, Race, SetData], None]) -> None:
        nonlocal done
        for stack in stacks:

            def advance(share: float, done: int = done, size: int = len(stack.variants)) -> None:
                progress((done + share * size) / total)

            _run_stack(block, stack, data, by_cell, enter, advance, notice)
            done += len(stack.variants)
            progress(done / total)

    fit_all(entrants, _enter_folds if by_folds else _enter)
    if by_folds:
        chosen = [race.front.variant for race in races if race.front and not race.error]
        fit_all(stacks_of(block.method, chosen), _refit)
    keep = {"keep_logits": keep_logits}
    outcomes = [_settled(block, race, data, anew=anew, **keep) for race in races]
    return _scored(outcomes, block, data, targets, **keep) if data.tested else outcomes


def _run_stack(
    block: Block,
    stack: Stack,
    data: SetData,
    races: Mapping[int, Race],
    enter: Callable[[Heads, Race, SetData], None],
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
            fitted = fit(method, stack.variants, data, progress, notice)
            for heads in in_folds(fitted) if enter is _enter_folds else fitted:
                for rivals in heads.where(heads.finite()).by_cell():
                    enter(rivals, races[id(rivals.variants[0].cell)], data)
                del missing[: len(heads.variants)]
    except CacheclipError as error:
        for variant in missing:
            races[id(variant.cell)].error = error
    seconds = perf_counter() - start
    for race in {id(v.cell): races[id(v.cell)] for v in stack.variants}.values():
        race.seconds += seconds
        race.size += len(stack.variants)


def _enter(rivals: Heads, race: Race, data: SetData) -> None:
    """Candidates of a cell, with what they do on the pictures that the policy looks at."""
    if race.policy.reads_val:
        race.enter(rivals, on_validation(rivals, data))
    elif race.policy.held == "test":
        race.enter(rivals, on_test(rivals, data))
    else:
        race.enter(rivals, [()] * len(rivals.variants))


def _enter_folds(rivals: Heads, race: Race, data: SetData) -> None:
    """All folds of a candidate together, or constants that stand alone; else one was not finite."""
    if rivals.variants[0].whole is None:
        race.enter(rivals, [()])
    elif len(rivals.variants) == len(race.cell.folds):
        race.enter(rivals, [on_folds(rivals, data)])


def _refit(winner: Heads, race: Race, data: SetData) -> None:
    """What folds chose, learned from all of the support, with what a search found on them."""
    if race.front is not None:
        race.refit = winner.settled(race.front.settings)


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
    outcomes: Sequence[Outcome],
    block: Block,
    data: SetData,
    targets: Sequence[Target],
    *,
    keep_logits: bool,
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
                others = [
                    _elsewhere(target, heads, own, warmth, keep_logits=keep_logits)
                    for target in targets
                ]
            told = [
                replace(o, scores=scores.of(w), elsewhere=tuple(x.of(w) for x in others))
                for w, o in enumerate(own)
            ]
        except CacheclipError as error:
            told = [Outcome(outcome.race, error) for outcome in own]
        seconds = perf_counter() - start
        for variant, outcome in zip(heads.variants, told, strict=True):
            outcome.race.seconds += seconds
            won[variant] = outcome
    return [won[o.result.variants[0]] if isinstance(o.result, Heads) else o for o in outcomes]


def _elsewhere(
    target: Target,
    served: Heads,
    outcomes: Sequence[Outcome],
    warmth: Sequence[float],
    *,
    keep_logits: bool,
) -> Scores:
    """What settled variants do on a target, each at its temperature."""
    learned = [o.race.winner for o in outcomes]
    heads = target.served(Heads.cat([own for own in learned if own is not None]), served)
    return score(
        *(heads.method, heads.params, target.learned, warmth, heads.seeds, target),
        keep_logits=keep_logits,
    )
