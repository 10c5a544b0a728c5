"""Stage two: a table of methods x settings x shots x seeds from the cache alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Literal

import torch

from cacheclip.answers import Rooted
from cacheclip.draws import Draw, Fewer, Shots, in_words
from cacheclip.engine.memory import default_limit, variants_at_once, written
from cacheclip.errors import CacheclipError, StoreError, argument
from cacheclip.methods import base as methods
from cacheclip.methods.base import TEXT_NORM, Method
from cacheclip.results import Row
from cacheclip.store.not_extracted import all_of
from cacheclip.store.source import Source
from cacheclip.study import rows
from cacheclip.study.data import SetData
from cacheclip.study.journal import Journal
from cacheclip.study.plan import (
    Block,
    Cell,
    Stack,
    blocks,
    depends_on_draws,
    parts,
    refuse_recipe,
    refuse_too_many,
    sentence,
)
from cacheclip.study.policy import policy_for
from cacheclip.study.run import Outcome, run
from cacheclip.study.sampling import notices, sampled
from cacheclip.study.settings import Choices, Given, choices, reads_under

FLOOR = ("zero-shot", "nearest-mean")
DEFAULT_METHODS = (*FLOOR, "linear-probe", "tip-adapter", "tip-adapter-f", "clip-adapter")
EVERY = "all"
LATER = ("setting", "constants", "given")  # fields that rows of earlier versions lack


def methods_named(asked: Sequence[str]) -> tuple[str, ...]:
    """The methods to compare: those named, every one for `all`, or the default for none."""
    if EVERY in asked:
        asked = [*FLOOR, *methods.names(), *(name for name in asked if name != EVERY)]
    return tuple(dict.fromkeys(asked)) or DEFAULT_METHODS


@dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        methods: their names.
        shots: support images a class; `all` is every training image.
        fewer: `keep` takes what there is of a class with fewer images than that.
        seeds: of the draws.
        select: policy; None takes `fewshot-val` where val has every class, else `fixed`.
        settings: setting -> a value or several; method -> such settings of its own.
        recipe: `as-code` or `as-paper`, for the methods that know both.
        on_existing: `skip` re-uses rows of the log, `redo` runs them again.
        max_memory: working memory in bytes; None leaves it to the device.
        floor: methods that stand in the table before those, where they can run.
        draw: `given` or `ranked`; None takes the draws that came with the set, if any did.
        calibrate_anew: whether a trained method without rivals is trained again for its
            temperature where nothing else is left, which is most of the work.
        tests: whether there must be test pictures; else what has none is fitted and not scored.
    """

    methods: tuple[str, ...]
    shots: tuple[Shots, ...]
    seeds: Sequence[int] = (1,)
    select: str | None = None
    settings: Given = field(default_factory=dict)
    recipe: str | None = None
    on_existing: Literal["skip", "redo"] = "skip"
    max_memory: int | None = None
    floor: tuple[str, ...] = ()
    draw: str | None = None
    fewer: Fewer = "error"
    calibrate_anew: bool = False
    tests: bool = True

    @property
    def is_fit(self) -> bool:
        """Whether it is one fit, and no comparison."""
        return self.calibrate_anew or not self.tests


@dataclass(frozen=True)
class _Planned:
    """A cell, its row so far, and where that stands in the table."""

    place: int
    cell: Cell
    row: Row


class Comparison:
    """One feature set and what is to be run on it; `run` does it, row by row.

    Attributes:
        data: the feature set.
        blocks: all that was asked for.
        refusals: why each other method does not run.
        shortages: a line for each shot count that some classes do not have.
        journal: where rows are kept; None where nothing is.
        reused: how many rows were there already.
        choices: method -> the settings that were given.
        draws: shots -> the draws of its seeds.
        notices: what there is to know of the draws, the text and the log, a line each.
    """

    def __init__(self, request: Request, features: Source, results: Rooted | None = None) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.data = SetData(features, device, request.max_memory or default_limit(device))
        self.journal = Journal(results, self.data) if results else None
        if request.tests and not self.data.tested:
            raise _untestable(self.data)
        asked, self.choices, self.refusals = _asked(request, self.data)
        planned = list(_planned(asked, self.data, request.fewer))
        every = [p for own in planned for p in own]
        self.blocks = [
            replace(block, cells=tuple(p.cell for p in own))
            for block, own in zip(asked, planned, strict=True)
        ]
        self.draws = {block.shots: list(_drawn(block)) for block in self.blocks}
        self.shortages = _shortages([p.cell.draw for p in every])
        self.notices = notices([d for own in self.draws.values() for d in own], self.data)
        self.notices += self.data.texts.notices([block.method for block in self.blocks])
        self.notices += rows.unread(self.data, [p.row for p in every])
        self._anew = request.calibrate_anew
        self._skips = request.on_existing == "skip"
        there: Mapping[str, Row] = {}
        if self.journal:
            wanted = {p.row.row_id for p in every} if self._skips else set()
            there = self.journal.rows(wanted, self.notices.append)
        self.reused = len(there)
        self._done: dict[int, Row] = {}
        self._missing = [self._without(there, own) for own in planned]
        for block, own in zip(self.blocks, self._missing, strict=True):
            used = [p.cell.draw for p in own if isinstance(p.cell.draw, Draw)]
            self.data.expect(used, chooses=block.policy.selects)

    @property
    def plan(self) -> str:
        """What was asked for, and how much of it is there already, in one line."""
        asked = sum(len(block.cells) for block in self.blocks)
        select = next((b.policy for b in self.blocks if b.policy.selects), self.blocks[-1].policy)
        said = f"{sentence(self.blocks)}; --select {select.name}"
        if self.reused == asked:
            return f"{said}; all {asked} rows are there, nothing to run"
        return f"{said}; {self.reused} of {asked} rows re-used" if self.reused else said

    @property
    def rows(self) -> list[Row]:
        """The table as far as it is there, in the order asked for."""
        return [self._done[place] for place in sorted(self._done)]

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
        for block, missing, meanwhile in self._turns(notice):
            done += meanwhile
            whole = replace(block, cells=tuple(p.cell for p in missing))
            for group in parts(whole, partial(self._at_once, block)):
                own = [missing[c] for c in group]
                part = replace(block, cells=tuple(p.cell for p in own))

                def advance(share: float, done: int = done, size: int = part.runs) -> None:
                    progress(done + share * size, total)

                outcomes = run(part, self.data, advance, notice, anew=self._anew)
                made = [
                    rows.finished(p.row, o, self.data.classnames)
                    for p, o in zip(own, outcomes, strict=True)
                ]
                if self.journal:
                    made = [
                        self.journal.keep(o, row, notice)
                        for o, row in zip(outcomes, made, strict=True)
                    ]
                    self.journal.add(made)
                self._done |= {p.place: row for p, row in zip(own, made, strict=True)}
                yield from zip(outcomes, made, strict=True)
                done += part.runs

    def _turns(self, notice: Callable[[str], None]) -> Iterator[tuple[Block, list[_Planned], int]]:
        """The blocks that miss rows, and their cells, while nobody else makes such rows.

        Those that somebody else is at come last. With a block comes how many of the runs planned
        for it were made by others in the meantime.
        """
        waiting = [(b, own) for b, own in zip(self.blocks, self._missing, strict=True) if own]
        if not self._skips or self.journal is None:
            yield from ((block, own, 0) for block, own in waiting)
            return
        every = [p for _, own in waiting for p in own]
        for patient in (False, True):
            taken = []
            for block, own in waiting:
                with self.journal.turn(own[0].row, notice if patient else None) as ours:
                    if not ours:
                        taken.append((block, own))
                        continue
                    self._without(self.journal.younger({p.row.row_id for p in every}), every)
                    left = [p for p in own if p.place not in self._done]
                    runs = sum(len(p.cell.candidates) for p in own if p.place in self._done)
                    yield block, left, runs
            waiting = taken

    def _without(self, there: Mapping[str, Row], planned: Sequence[_Planned]) -> list[_Planned]:
        """The cells whose rows are not among these; the others are done."""
        for p in planned:
            if p.row.row_id in there:
                row = there[p.row.row_id]
                lacks = [name for name in LATER if getattr(row, name) is None]
                row = replace(row, **{name: getattr(p.row, name) for name in lacks})
                self._done[p.place] = row
        return [p for p in planned if p.place not in self._done]

    def _at_once(self, block: Block, stack: Stack) -> int:
        """Variants of such a stack that run together."""
        one = stack.variants[0]
        task = self.data.task(block.method, [one.draw], [one.settings])
        return variants_at_once(block.method(**stack.static), task, self.data.limit)


def _asked(request: Request, data: SetData) -> tuple[list[Block], dict[str, Choices], list[str]]:
    """What was asked for, as far as the set has the features: blocks without draws yet.

    Beside them the settings that were given, and why each other method does not run.
    """
    names = dict.fromkeys((*request.floor, *request.methods))
    chosen = [methods.get(name) for name in names]
    given = choices(request.settings, chosen)
    refuse_recipe(request.recipe, chosen)
    policy = policy_for(request.select, data)
    able, refusals = _able(chosen, request.methods, given, data)
    refuse_too_many(able, request.shots, request.seeds, policy, given)
    drawing = any(depends_on_draws(own, policy) and own.name in request.methods for own in able)
    shots = request.shots if drawing else ()
    sampled(data, request, shots)
    able = [
        method
        for method in able
        if method.name in request.methods or _can_run(method, request, data, alone=not drawing)
    ]
    asked = blocks(
        able,
        request.shots,
        request.seeds,
        policy,
        given,
        data.logit_scale,
        request.recipe,
        data.per_class,
        _text_norm(able, data),
    )
    return asked, given, refusals


def _text_norm(chosen: Sequence[type[Method]], data: SetData) -> float:
    """The norm that constants follow; text is not read where no method has such constants."""
    return data.texts.norm if any(own().reads.raw_text for own in chosen) else TEXT_NORM


def _untestable(data: SetData) -> StoreError:
    features, none = data.features, "test" not in data.labelled_splits
    what = "there is no test split" if none else "no test picture could be encoded"
    return StoreError(
        f"{what}, so nothing can be tested",
        where=f"data set {features.dataset}, encoder {features.name}",
        fix=features.extract_command,
    )


def _able(
    chosen: Sequence[type[Method]],
    asked: Sequence[str],
    given: Mapping[str, Choices],
    data: SetData,
) -> tuple[list[type[Method]], list[str]]:
    """The methods that the set has all features for, and why each other one does not run.

    Raises:
        StoreError: there is none of those asked for.
    """
    features = data.features
    why: dict[str, str] = {}
    lacking: dict[str, StoreError] = {}
    for method in chosen:
        own = given[method.name]
        forms = reads_under(method, own)
        views = own.get("views", (1,))
        if features.text is None and any(reads.text for reads in forms):
            why[method.name] = f"it needs text features, and {features.dataset} has none"
        elif error := next(filter(None, (data.lacking(reads, views) for reads in forms)), None):
            why[method.name], lacking[method.name] = f"{error.what}; {error.fix}", error
    able = [method for method in chosen if method.name not in why]
    if not any(method.name in asked for method in able):
        if asked[0] in lacking:
            lacked = [(name, lacking[name]) for name in asked if name in lacking]
            raise StoreError(
                "; ".join(f"{name}: {error.what}" for name, error in lacked),
                where=lacked[0][1].where,
                fix=all_of([error for _, error in lacked]).fix,
            )
        plain = [name for name in methods.names() if not methods.get(name)().reads.text]
        raise StoreError(
            f"{asked[0]} needs text features, and this feature set has none",
            where=f"data set {features.dataset}, encoder {features.name}",
            fix=f"take {' or '.join(plain)}, or {features.text_command}",
        )
    return able, [f"{name} does not run: {reason}" for name, reason in why.items()]


def _can_run(method: type[Method], request: Request, data: SetData, *, alone: bool) -> bool:
    """Whether a method of the floor draws nothing, or has a draw for some of the shots asked for.

    Args:
        method: it was not asked for itself.
        request: what was.
        data: the feature set.
        alone: no method that was asked for draws anything: then for all of the shots.
    """
    possible = []
    for shots in request.shots if method.learns == "support" else ():
        try:
            data.draw(shots, request.seeds[0], request.fewer)
            possible.append(True)
        except CacheclipError:
            possible.append(False)
    return all(possible) if alone else any(possible) or not possible


def _planned(blocks: Sequence[Block], data: SetData, fewer: Fewer) -> Iterator[list[_Planned]]:
    """The cells of each block, numbered through all blocks."""
    place = count()
    for block in blocks:
        cells = [replace(c, draw=_draw(block, c, data, fewer)) for c in block.cells]
        yield [_Planned(next(place), cell, rows.planned(block, cell, data)) for cell in cells]


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


def _draw(block: Block, cell: Cell, data: SetData, fewer: Fewer) -> Draw | CacheclipError | None:
    if cell.seed is None or not block.drawn:
        return None
    try:
        draw = data.draw(block.shots, cell.seed, fewer)
        return draw.holding(data.pool("val")) if block.policy.held == "all" else draw
    except CacheclipError as error:
        return error
