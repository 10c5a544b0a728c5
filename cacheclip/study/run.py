"""Run one block: fit its stacks, choose by validation accuracy, and only then score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from time import perf_counter

import torch

from cacheclip.draws import Draw
from cacheclip.engine import stack as engine
from cacheclip.errors import CacheclipError, FitError
from cacheclip.methods.base import Method, Params, Settings
from cacheclip.metrics import top1
from cacheclip.select.base import first_best
from cacheclip.study.data import SetData
from cacheclip.study.plan import Block, Cell, Stack
from cacheclip.study.score import Scores, score


@dataclass(frozen=True)
class Winner:
    """The chosen variant of a cell, settled before any test label is opened."""

    settings: Settings
    method: Method
    params: Params  # [1, ...]
    stack: Stack
    stack_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: its winner, or why there is none."""

    cell: Cell
    draw: Draw | None
    result: Winner | CacheclipError
    val_top1: dict[int, float] = field(default_factory=dict)  # of the candidates, where one chose
    scores: Scores | None = None  # of the winner alone


@dataclass
class _Race:
    """The candidates of one cell so far: their validation accuracy, and the one in front."""

    val: dict[int, float] = field(default_factory=dict)
    winner: Winner | None = None


def run(block: Block, data: SetData, progress: Callable[[float], None]) -> list[Outcome]:
    """All cells of the block, in order; a cell that fails says so and the others go on.

    Args:
        block: cells of one method and shot count.
        data: the feature set.
        progress: called with the share of the block that is done.
    """
    draws = [_draw(block, cell, data) for cell in block.cells]
    races = [_Race() for _ in block.cells]
    done = 0
    for whole in block.stacks:
        live = [(c, k) for c, k in whole.variants if not isinstance(draws[c], CacheclipError)]

        def advance(share: float, done: int = done, size: int = len(whole.variants)) -> None:
            progress((done + share * size) / block.variants)

        if live:
            _fit(block, Stack(whole.static, tuple(live)), data, draws, races, advance)
        done += len(whole.variants)
        progress(done / block.variants)
    outcomes = [
        _settle(cell, draw, race)
        for cell, draw, race in zip(block.cells, draws, races, strict=True)
    ]
    return _scored(outcomes, data)


def _draw(block: Block, cell: Cell, data: SetData) -> Draw | CacheclipError | None:
    if cell.seed is None:
        return None
    try:
        return data.draw(block.shots, cell.seed)
    except CacheclipError as error:
        return error


def _fit(
    block: Block,
    stack: Stack,
    data: SetData,
    draws: Sequence[Draw | CacheclipError | None],
    races: Sequence[_Race],
    progress: Callable[[float], None],
) -> None:
    """Fit a stack's variants and let each take part in its cell's race."""
    start = perf_counter()
    method = block.method(**stack.static)
    own = [d if isinstance(d, Draw) else None for d in (draws[c] for c, _ in stack.variants)]
    settings = [block.cells[c].candidates[k] for c, k in stack.variants]
    seeds = [block.cells[c].seed or 0 for c, _ in stack.variants]
    params = engine.fit(method, data.task(block.method, own, settings), seeds, progress)
    finite = engine.finite(params).tolist()
    if block.policy.selects:
        _validate(method, params, stack, data, own, races)
    seconds = perf_counter() - start
    for v, (c, k) in enumerate(stack.variants):
        race = races[c]
        if not finite[v]:
            race.val.pop(k, None)
            continue
        rivals = sorted(race.val) or [k]
        if k == rivals[first_best([race.val.get(r, 0.0) for r in rivals])]:
            race.winner = Winner(settings[v], method, engine.take(params, [v]), stack, seconds)


def _validate(
    method: Method,
    params: Params,
    stack: Stack,
    data: SetData,
    draws: Sequence[Draw | None],
    races: Sequence[_Race],
) -> None:
    """The validation accuracy of every variant; those of a cell stand together and share images."""
    for c, members in groupby(enumerate(stack.variants), key=lambda item: item[1][0]):
        positions = [(v, k) for v, (_, k) in members]
        first, last = positions[0][0], positions[-1][0] + 1
        draw = draws[first]
        if draw is None or not draw.val:
            continue
        query, labels = data.val_query(draw)
        own = {name: x[first:last] for name, x in params.items()}
        hits = [
            top1(logits, labels[a:b]) * (b - a)
            for a, b, logits in engine.logits_in_parts(method, own, query)
        ]
        accuracies = (torch.stack(hits).sum(0) / len(labels)).tolist()
        for (_, k), accuracy in zip(positions, accuracies, strict=True):
            races[c].val[k] = accuracy


def _settle(cell: Cell, draw: Draw | CacheclipError | None, race: _Race) -> Outcome:
    """The cell's outcome before scoring."""
    if isinstance(draw, CacheclipError):
        return Outcome(cell, None, draw)
    if race.winner is None:
        error = FitError(
            "the fit is not finite",
            where=f"all {len(cell.candidates)} candidates of seed {cell.seed}",
            fix="use a smaller lr",
        )
        return Outcome(cell, draw, error)
    return Outcome(cell, draw, race.winner, val_top1=dict(race.val))


def _scored(outcomes: list[Outcome], data: SetData) -> list[Outcome]:
    """The outcomes with test results; winners of one stack are scored together."""
    scored = list(outcomes)
    winners = [(k, o.result) for k, o in enumerate(outcomes) if isinstance(o.result, Winner)]
    winners.sort(key=lambda item: id(item[1].stack))
    for _, members in groupby(winners, key=lambda item: id(item[1].stack)):
        own = list(members)
        start = perf_counter()
        first = own[0][1]
        params = {name: torch.cat([w.params[name] for _, w in own]) for name in first.params}
        scores = score(first.method, params, data)
        seconds = perf_counter() - start
        for w, (k, winner) in enumerate(own):
            timed = replace(winner, stack_seconds=winner.stack_seconds + seconds)
            scored[k] = replace(outcomes[k], result=timed, scores=scores.of(w))
    return scored
