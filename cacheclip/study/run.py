"""Run the cells of blocks: fit their stacks, choose on held-out pictures, and only then score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

from cacheclip.answers import Answered
from cacheclip.draws import Draw
from cacheclip.engine.memory import is_exhausted
from cacheclip.errors import CacheclipError, FitError, MachineError
from cacheclip.study.calibration import Calibration, calibrate, on_choice
from cacheclip.study.data import SetData
from cacheclip.study.evidence import in_folds, on_folds, on_validation
from cacheclip.study.heads import Heads, fit, served, together
from cacheclip.study.plan import Block, Cell, Stack, Variant, shared, stacks as stacks_of
from cacheclip.study.race import Point, Race
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


@dataclass
class _Contest:
    """The races of one block.

    Attributes:
        block: one method, shot count and policy.
        races: one a cell.
        own: what is fitted, maybe for other policies too -> the variant of this block.
        cut: the folds of a candidate so far, where a chunk of a stack ended among them.
    """

    block: Block
    races: Sequence[Race]
    own: Mapping[Variant, Variant]
    cut: list[Heads] = field(default_factory=list)

    @cached_property
    def by_cell(self) -> Mapping[int, Race]:
        """The race of each cell, by its id."""
        return {id(race.cell): race for race in self.races}

    def enter(self, fitted: Heads, data: SetData) -> None:
        """Let what was fitted take part.

        A variant that is not finite never enters, so it cannot win or push another out.
        """
        heads = fitted.standing_for(self.own)
        if not heads.variants:
            return
        folds = self.block.policy.held == "folds"
        for group in in_folds(self.cut, heads) if folds else [heads]:
            for rivals in group.where(group.finite()).by_cell():
                race = self.by_cell[id(rivals.variants[0].cell)]
                if not folds:
                    race.enter(rivals, _evidence(rivals, race, data))
                elif rivals.variants[0].whole is None:  # constants that stand alone
                    race.enter(rivals, [()])
                elif len(rivals.variants) == len(race.cell.folds):
                    race.enter(rivals, [on_folds(rivals, data)])

    def refit(self, winners: Heads, data: SetData) -> None:
        """Take what folds chose, learned from all of the support, with what their search found."""
        for winner in winners.where(winners.finite()).by_cell():
            race = self.by_cell[id(winner.variants[0].cell)]
            if race.front is not None:
                race.refit = winner.settled(race.front.settings)

    def of(self, fitted: Sequence[Variant]) -> list[Race]:
        """The races that what is fitted takes part in."""
        cells = {id(self.own.get(v, v).cell) for v in fitted}
        return [self.by_cell[cell] for cell in cells if cell in self.by_cell]


def run(
    blocks: Sequence[Block],
    data: SetData,
    progress: Callable[[float], None],
    notice: Callable[[str], None],
    *,
    anew: bool = False,
    keep_logits: bool = False,
    targets: Sequence[Target] = (),
) -> list[list[Outcome]]:
    """All cells of the blocks, in order; a cell that fails says so and the others go on.

    Args:
        blocks: cells of one method and shot count with their draws, a block a policy: what several
            of these ask for is fitted once.
        data: the feature set.
        progress: called with the share of it that is done.
        notice: called with a line for the user.
        anew: see `calibrate`.
        keep_logits: whether what the winners answer is to have all logits.
        targets: what the winners are tested on beside the classes that they learned from.
    """
    stacks, owned = shared(blocks)
    contests = [
        _Contest(block, [Race(block.method, block.policy, cell) for cell in block.cells], own)
        for block, own in zip(blocks, owned, strict=True)
    ]
    of_folds = [contest for contest in contests if contest.block.policy.held == "folds"]
    total = sum(len(stack.variants) for stack in stacks)
    total += sum(len(contest.races) for contest in of_folds)
    done = 0

    def fit_all(stacks: Sequence[Stack], contests: Sequence[_Contest], *, again: bool) -> None:
        nonlocal done
        for stack in stacks:

            def advance(share: float, done: int = done, size: int = len(stack.variants)) -> None:
                progress((done + share * size) / total)

            _run_stack(stack, contests, data, advance, notice, again=again)
            done += len(stack.variants)
            progress(done / total)

    fit_all(stacks, contests, again=False)
    for contest in of_folds:
        races = [race for race in contest.races if race.front and not race.error]
        chosen = [race.front.variant for race in races if race.front]
        fit_all(stacks_of(contest.block.method, chosen), [contest], again=True)
    how = {"anew": anew, "keep_logits": keep_logits}
    return [_outcomes(contest, data, targets, **how) for contest in contests]


def _run_stack(
    stack: Stack,
    contests: Sequence[_Contest],
    data: SetData,
    progress: Callable[[float], None],
    notice: Callable[[str], None],
    *,
    again: bool,
) -> None:
    """Fit a stack's variants, chunk by chunk, and let each take part in its cells' races.

    Args:
        stack: the variants.
        contests: that they take part in.
        data: the feature set.
        progress: called with the share that is done.
        notice: called with a line for the user.
        again: whether they were chosen already, and learn from all of the support now.
    """
    start = perf_counter()
    missing = list(stack.variants)
    block, lost = contests[0].block, None
    try:
        with _in_words(block, data):
            method = block.method(**stack.static)
            for heads in fit(method, stack.variants, data, progress, notice):
                for contest in contests:
                    (contest.refit if again else contest.enter)(heads, data)
                del missing[: len(heads.variants)]
    except CacheclipError as error:
        lost = error
    seconds = perf_counter() - start
    for contest in contests:
        contest.cut.clear()
        for race in contest.of(stack.variants):
            race.seconds += seconds
            race.size += len(stack.variants)
        for race in contest.of(missing) if lost else ():
            race.error = lost


def _evidence(rivals: Heads, race: Race, data: SetData) -> Sequence[Sequence[Point]]:
    """What a cell's candidates do on the pictures that its policy looks at; nothing on none."""
    if race.policy.reads_val:
        return on_validation(rivals, data)
    if race.policy.held == "test":
        return on_test(rivals, data)
    return [()] * len(rivals.variants)


def _outcomes(
    contest: _Contest,
    data: SetData,
    targets: Sequence[Target],
    *,
    anew: bool,
    keep_logits: bool,
) -> list[Outcome]:
    """What became of the cells of a block, in their order."""
    keep = {"keep_logits": keep_logits}
    settled = [_settled(contest.block, race, data, anew=anew, **keep) for race in contest.races]
    return _scored(settled, contest.block, data, targets, **keep) if data.tested else settled


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
