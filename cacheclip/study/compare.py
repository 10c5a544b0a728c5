"""Stage two: a table of methods x settings x shots x seeds from the cache alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch

from cacheclip.answers import Rooted
from cacheclip.draws import Draw, Fewer, Shots, in_words
from cacheclip.engine.memory import default_limit, variants_at_once, written
from cacheclip.errors import CacheclipError, argument
from cacheclip.methods import DEFAULT, base as methods
from cacheclip.results import Row
from cacheclip.store.source import Source
from cacheclip.study import rows, targets as elsewhere
from cacheclip.study.able import untestable
from cacheclip.study.data import SetData
from cacheclip.study.journal import Journal
from cacheclip.study.plan import (
    Block,
    Cell,
    Stack,
    only,
    parts,
)
from cacheclip.study.request import Request as Request, asked as blocks_of
from cacheclip.study.run import Outcome, run
from cacheclip.study.sampling import notices
from cacheclip.study.sentence import sentence
from cacheclip.study.targets import Target

FLOOR = ("zero-shot", "nearest-mean")
RIVALS = ("linear-probe", "tip-adapter", "tip-adapter-f", "clip-adapter")
DEFAULT_METHODS = (*FLOOR, *RIVALS, DEFAULT)
EVERY = "all"
LATER = ("setting", "constants", "given", "classnames")  # fields that rows of earlier versions lack


def methods_named(asked: Sequence[str]) -> tuple[str, ...]:
    """The methods to compare: those named, every one for `all`, or the default for none."""
    if EVERY in asked:
        asked = [*FLOOR, *methods.names(), *(name for name in asked if name != EVERY)]
    return tuple(dict.fromkeys(asked)) or DEFAULT_METHODS


@dataclass(frozen=True)
class _Planned:
    """A cell, its rows so far, and where the first of them stands in the table.

    Attributes:
        place: the others come after it.
        cell: what runs.
        rows: that of the classes that it learns from, then one a target.
    """

    place: int
    cell: Cell
    rows: tuple[Row, ...]

    @property
    def places(self) -> Iterator[tuple[int, Row]]:
        """Each row and where it stands."""
        return enumerate(self.rows, self.place)


_Missing = tuple[Block, list[_Planned]]  # a block, and its cells that have no rows


class Comparison:
    """One feature set and what is to be run on it; `run` does it, row by row.

    Attributes:
        data: the classes and the feature set that are learned from.
        targets: what is tested on beside them.
        blocks: all that was asked for.
        refusals: why each other method does not run.
        shortages: a line for each shot count that some classes do not have.
        journal: where rows are kept; None where nothing is.
        planned: the rows to be, as far as they are known before anything runs: their ids are.
        reused: how many rows were there already.
        choices: method -> the settings that were given.
        draws: shots -> the draws of its seeds.
        notices: what there is to know of the draws, the text and the log, a line each.
    """

    def __init__(self, request: Request, features: Source, results: Rooted | None = None) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        learned = elsewhere.learned_from(features, request.classes, base_to_new=request.base_to_new)
        self.data = SetData(learned, device, request.max_memory or default_limit(device))
        self.targets = elsewhere.of(
            self.data, features, request.test_on, request.classes, base_to_new=request.base_to_new
        )
        tested = [self.data, *(target.data for target in self.targets)]
        self._keep_logits = request.keep == "logits"
        self.journal = None
        if results:
            self.journal = Journal(results, tested, keep_logits=self._keep_logits)
        if request.tests and not self.data.tested:
            raise untestable(self.data)
        asked, self.choices, self.refusals = blocks_of(request, self.data, self.targets)
        planned = list(_planned(asked, self.data, request.fewer, self.targets))
        every = [p for own in planned for p in own]
        self.planned = [row for p in every for row in p.rows]
        self.blocks = [
            replace(block, cells=tuple(p.cell for p in own))
            for block, own in zip(asked, planned, strict=True)
        ]
        self.draws = {block.shots: list(_drawn(block)) for block in self.blocks}
        self.shortages = _shortages([p.cell.draw for p in every])
        self.notices = notices([d for own in self.draws.values() for d in own], self.data)
        self.notices += self.data.texts.notices([block.method for block in self.blocks])
        self.notices += elsewhere.notices(self.targets)
        self.notices += rows.unread(self.data, self.planned)
        self._anew = request.calibrate_anew
        self._skips = request.on_existing == "skip"
        there: Mapping[str, Row] = {}
        if self.journal:
            wanted = {row.row_id for p in every for row in p.rows} if self._skips else set()
            there = self.journal.rows(wanted, self.notices.append)
        self.reused = len(there)
        self._done: dict[int, Row] = {}
        self._missing = [self._without(there, own) for own in planned]
        for block, own in zip(self.blocks, self._missing, strict=True):
            used = [p.cell.draw for p in own if isinstance(p.cell.draw, Draw)]
            self.data.expect(used, chooses=block.policy.reads_val)

    @property
    def plan(self) -> str:
        """What was asked for, and how much of it is there already, in one line."""
        asked = sum(len(block.cells) for block in self.blocks) * (1 + len(self.targets))
        drawn = dict.fromkeys(block.policy.name for block in self.blocks if block.drawn)
        select = ",".join(drawn) or self.blocks[-1].policy.name
        said = f"{sentence(self.blocks)}; --select {select}"
        if self.reused == asked:
            return f"{said}; all {asked} rows are there, nothing to run"
        return f"{said}; {self.reused} of {asked} rows re-used" if self.reused else said

    @property
    def rows(self) -> list[Row]:
        """The table as far as it is there, in the order asked for."""
        return [self._done[place] for place in sorted(self._done)]

    @property
    def own_rows(self) -> list[Row]:
        """Those that are tested on the classes and the set that they learned from."""
        each = 1 + len(self.targets)
        return [self._done[place] for place in sorted(self._done) if place % each == 0]

    @property
    def variants(self) -> int:
        """Runs that are to be made."""
        return sum(len(p.cell.candidates) for own in self._missing for p in own)

    def memory_plan(self) -> Iterator[str]:
        """A line a stack: how many of its variants run at once."""
        for block, missing in zip(self.blocks, self._missing, strict=True):
            for stack in replace(block, cells=tuple(p.cell for p in missing)).stacks:
                at_once = min(self._at_once(block, stack), len(stack.variants))
                shared = "".join(f" {name}={value}" for name, value in stack.static.items())
                yield (
                    f"{block.method.name}, --shots {block.shots}: {len(stack.variants)} runs, "
                    f"{at_once} at once on {self.data.device}, "
                    f"--max-memory {written(self.data.limit)};{shared}".rstrip(";")
                )

    def run(
        self,
        progress: Callable[[float, int], None] = lambda done, total: None,
        notice: Callable[[str], None] = lambda text: None,
    ) -> Iterator[tuple[Outcome, Row]]:
        """Run what is missing, part by part; each row is in the log, if there is one, first.

        Args:
            progress: called with how many variants are done, and how many are to be made.
            notice: called with a line for the user.
        """
        done, total = 0, self.variants
        for turn, meanwhile in self._turns(notice):
            done += meanwhile
            if not turn:  # all of it came meanwhile
                continue
            whole = [replace(block, cells=tuple(p.cell for p in own)) for block, own in turn]
            for group in parts(whole, partial(self._at_once, whole[0])):
                part = only(whole, group)
                size = sum(block.runs for block in part)

                def advance(share: float, done: int = done, size: int = size) -> None:
                    progress(done + share * size, total)

                ran = run(
                    *(part, self.data, advance, notice),
                    anew=self._anew,
                    keep_logits=self._keep_logits,
                    targets=self.targets,
                )
                own = [
                    missing[c]
                    for (_, missing), numbers in zip(turn, group, strict=True)
                    for c in numbers
                ]
                outcomes = [outcome for of_block in ran for outcome in of_block]
                yield from self._finished(own, outcomes, notice)
                done += size

    def _finished(
        self,
        planned: Sequence[_Planned],
        outcomes: Sequence[Outcome],
        notice: Callable[[str], None],
    ) -> list[tuple[Outcome, Row]]:
        """The rows that cells which ran were missing, in the log if there is one."""
        names = [self.data.classnames, *(target.data.classnames for target in self.targets)]
        made: dict[int, tuple[Outcome, Row]] = {}
        for p, outcome in zip(planned, outcomes, strict=True):
            for k, (place, row) in enumerate(p.places):
                if place not in self._done:
                    told = outcome.at(k - 1)
                    made[place] = told, rows.finished(row, told, names[k])
        if self.journal:
            firsts = {p.place for p in planned}
            for place, (told, row) in made.items():
                own = place in firsts
                made[place] = told, self.journal.keep(told, row, notice, own=own)
            self.journal.add([row for _, row in made.values()])
        self._done |= {place: row for place, (_, row) in made.items()}
        return list(made.values())

    def _turns(self, notice: Callable[[str], None]) -> Iterator[tuple[list[_Missing], int]]:
        """The blocks of a method and shot count that miss rows, while nobody else makes such rows.

        Those that somebody else is at come last. With them comes how many of the runs planned were
        made by others in the meantime.
        """
        waiting = _together([(b, x) for b, x in zip(self.blocks, self._missing, strict=True) if x])
        if not self._skips or self.journal is None:
            yield from ((turn, 0) for turn in waiting)
            return
        every = [p for turn in waiting for _, own in turn for p in own]
        for patient in (False, True):
            taken = []
            for turn in waiting:
                with ExitStack() as held:
                    firsts = sorted((own[0].rows[0] for _, own in turn), key=lambda row: row.select)
                    said = notice if patient else None
                    if not all(held.enter_context(self.journal.turn(row, said)) for row in firsts):
                        taken.append(turn)
                        continue
                    wanted = {row.row_id for p in every for row in p.rows}
                    self._without(self.journal.younger(wanted), every)
                    left = [(b, [p for p in own if not self._has(p)]) for b, own in turn]
                    planned = [p for _, own in turn for p in own]
                    runs = sum(len(p.cell.candidates) for p in planned if self._has(p))
                    yield [(b, own) for b, own in left if own], runs
            waiting = taken

    def _without(self, there: Mapping[str, Row], planned: Sequence[_Planned]) -> list[_Planned]:
        """The cells whose rows are not among these; the others are done."""
        for place, asked in (own for p in planned for own in p.places):
            if asked.row_id in there:
                row = there[asked.row_id]
                lacks = [name for name in LATER if getattr(row, name) is None]
                self._done[place] = replace(row, **{name: getattr(asked, name) for name in lacks})
        return [p for p in planned if not self._has(p)]

    def _has(self, planned: _Planned) -> bool:
        """Whether all rows of a cell are there."""
        return all(place in self._done for place, _ in planned.places)

    def _at_once(self, block: Block, stack: Stack) -> int:
        """Variants of such a stack that run together."""
        one = stack.variants[0]
        task = self.data.task(block.method, [one.draw], [one.settings])
        at_once = variants_at_once(block.method(**stack.static), task, self.data.limit)
        if self._keep_logits:  # of one row in float16, until it is written
            logits = 2 * len(self.data.test_ids) * len(self.data.classnames)
            at_once = min(at_once, max(1, self.data.limit // logits))
        return at_once


def _together(missing: Sequence[_Missing]) -> list[list[_Missing]]:
    """The blocks of one method and shot count side by side."""
    found: dict[tuple[str, Shots], list[_Missing]] = {}
    for block, own in missing:
        found.setdefault((block.method.name, block.shots), []).append((block, own))
    return list(found.values())


def _planned(
    blocks: Sequence[Block], data: SetData, fewer: Fewer, targets: Sequence[Target]
) -> Iterator[list[_Planned]]:
    """The cells of each block, their rows numbered through all blocks."""
    place = count(step=1 + len(targets))
    for block in blocks:
        cells = [replace(c, draw=_draw(block, c, data, fewer, targets)) for c in block.cells]
        yield [_Planned(next(place), cell, _rows(block, cell, data, targets)) for cell in cells]


def _rows(block: Block, cell: Cell, data: SetData, targets: Sequence[Target]) -> tuple[Row, ...]:
    """The rows that a cell owes: of the classes that it learns from, and of each target."""
    row, method = rows.planned(block, cell, data), block.method.of(cell.candidates[0])
    drawn = cell.draw if isinstance(cell.draw, Draw) else None
    others = (rows.elsewhere(row, drawn, target, method) for target in targets)
    return row, *others


def _drawn(block: Block) -> Iterable[Draw]:
    """The draws of a block, one a seed."""
    draws = (cell.draw for cell in block.cells)
    return {draw.seed: draw for draw in draws if isinstance(draw, Draw)}.values()


def _shortages(draws: Sequence[Draw | CacheclipError | None]) -> list[str]:
    """A line for each shot count that some classes do not have."""
    short = {d.shots: d for d in draws if isinstance(d, Draw) and d.short}
    return [
        f"{argument('shots', shots)}: fewer training pictures, all of them taken, in "
        f"{len(draw.short)} of {len(set(draw.support_labels))} classes: {in_words(draw.short)}"
        for shots, draw in short.items()
    ]


def _draw(
    block: Block, cell: Cell, data: SetData, fewer: Fewer, targets: Sequence[Target]
) -> Draw | CacheclipError | None:
    if cell.seed is None or not block.drawn:
        return None
    try:
        draw = data.draw(block.shots, cell.seed, fewer)
        for target in targets if block.method.reads_new_shots else ():
            target.support(draw, fewer)
        return draw.holding(data.pool("val")) if block.policy.held == "all" else draw
    except CacheclipError as error:
        return error
