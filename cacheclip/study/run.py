"""Run the cells of a block: fit its stacks, choose by validation accuracy, and only then score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from time import perf_counter

import torch

from cacheclip.draws import Draw
from cacheclip.engine import stack as engine
from cacheclip.engine.memory import is_exhausted
from cacheclip.errors import CacheclipError, FitError, MachineError
from cacheclip.methods.base import Method, Params, Settings
from cacheclip.metrics import hits
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
    precision: str | None  # of its training steps


@dataclass
class Race:
    """The candidates of one cell so far; the one in front keeps its params.

    Attributes:
        val_hits: candidate -> validation images that it got right, where a policy chooses.
        tried: candidate -> every point of its search with its hits, where it searched.
        winner: the candidate in front.
        front: its number.
        error: why a candidate is out of the race.
        seconds: time of the stacks that its candidates ran in.
        size: variants of those stacks.
    """

    val_hits: dict[int, int] = field(default_factory=dict)
    tried: dict[int, list[tuple[Settings, int]]] = field(default_factory=dict)
    winner: Winner | None = None
    front: int = -1
    error: CacheclipError | None = None
    seconds: float = 0.0
    size: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: its winner, or why there is none."""

    cell: Cell
    draw: Draw | None
    result: Winner | CacheclipError
    race: Race = field(default_factory=Race)
    scores: Scores | None = None  # of the winner alone


def run(
    block: Block,
    draws: Sequence[Draw | CacheclipError | None],
    data: SetData,
    progress: Callable[[float], None],
    notice: Callable[[str], None],
) -> list[Outcome]:
    """All cells of the block, in order; a cell that fails says so and the others go on.

    Args:
        block: cells of one method and shot count.
        draws: of each cell, or why there is none.
        data: the feature set.
        progress: called with the share of the block that is done.
        notice: called with a line for the user.
    """
    races = [Race() for _ in block.cells]
    done = 0
    for whole in block.stacks:
        live = [(c, k) for c, k in whole.variants if not isinstance(draws[c], CacheclipError)]

        def advance(share: float, done: int = done, size: int = len(whole.variants)) -> None:
            progress((done + share * size) / block.variants)

        if live:
            stack = replace(whole, variants=tuple(live))
            _run_stack(block, stack, data, draws, races, advance, notice)
        done += len(whole.variants)
        progress(done / block.variants)
    outcomes = [
        _settle(cell, draw, race)
        for cell, draw, race in zip(block.cells, draws, races, strict=True)
    ]
    return _scored(outcomes, data)


def _run_stack(
    block: Block,
    stack: Stack,
    data: SetData,
    draws: Sequence[Draw | CacheclipError | None],
    races: Sequence[Race],
    progress: Callable[[float], None],
    notice: Callable[[str], None],
) -> None:
    """Fit a stack's variants, chunk by chunk, and let each take part in its cell's race."""
    start = perf_counter()
    raced = 0
    error: CacheclipError | None = None
    try:
        method = block.method(**stack.static)
        own = [d if isinstance(d, Draw) else None for d in (draws[c] for c, _ in stack.variants)]
        settings = [block.cells[c].candidates[k] for c, k in stack.variants]
        seeds = [block.cells[c].seed or 0 for c, _ in stack.variants]
        task = data.task(block.method, own, settings)
        for first, last, params in engine.fit(method, task, seeds, progress, data.limit, notice):
            entrants = list(zip(stack.variants, own, settings, strict=True))[first:last]
            precision = engine.precision(method, task)
            _race(block, method, params, precision, entrants, data, races)
            raced = last
    except CacheclipError as caught:
        error = caught
    except (MemoryError, RuntimeError) as caught:
        if not is_exhausted(caught):
            raise
        error = MachineError(
            f"out of memory with one variant of {block.method.name}",
            where=f"{block.shots} shots, device {data.device}",
            fix="close other programs, or use a machine with more memory",
        )
    for c, _ in stack.variants[raced:] if error else ():
        races[c].error = error
    for c in {c for c, _ in stack.variants}:
        races[c].seconds += perf_counter() - start
        races[c].size += len(stack.variants)


Entrant = tuple[tuple[int, int], Draw | None, Settings]


def _race(
    block: Block,
    method: Method,
    params: Params,
    precision: str | None,
    entrants: Sequence[Entrant],
    data: SetData,
    races: Sequence[Race],
) -> None:
    """Validate one chunk's variants; those of a cell stand together and share their images.

    A variant that is not finite never enters, so it cannot win or push another out.
    """
    finite = engine.finite(params).tolist()
    for c, members in groupby(range(len(entrants)), key=lambda v: entrants[v][0][0]):
        positions = list(members)
        race, draw = races[c], entrants[positions[0]][1]
        entered = [v - positions[0] for v in positions if finite[v]]
        if not entered:
            continue
        own = {n: x[positions[0] : positions[-1] + 1] for n, x in params.items()}
        settings = [dict(entrants[v][2]) for v in positions]
        numbers = [entrants[v][0][1] for v in positions]
        if len(entered) < len(positions):
            own = engine.take(own, entered)
            settings, numbers = [settings[v] for v in entered], [numbers[v] for v in entered]
        if block.policy.selects and draw is not None and draw.val:
            for v, points in _searched(method, own, settings, draw, data).items():
                race.tried[numbers[v]] = points
            race.val_hits |= dict(zip(numbers, _val_hits(method, own, draw, data), strict=True))
        rivals = sorted(race.val_hits) or numbers[:1]
        front = rivals[first_best([race.val_hits.get(r, 0) for r in rivals])]
        if front != race.front and front in numbers:
            v = numbers.index(front)
            race.front = front
            race.winner = Winner(settings[v], method, engine.take(own, [v]), precision)


def _searched(
    method: Method, params: Params, settings: list[Settings], draw: Draw, data: SetData
) -> dict[int, list[tuple[Settings, int]]]:
    """What each variant's search tried; its best point is written to its params and settings."""
    query, labels = data.val_query(method, draw)
    found = method.search(params, query, labels)
    if found is None:
        return {}
    tried = {}
    hits, values = found.hits.tolist(), {n: x.tolist() for n, x in found.settings.items()}
    params |= {name: params[name].clone() for name in values}
    for v, own in enumerate(settings):
        best = first_best(hits[v])
        tried[v] = [
            (own | {name: x[v][t] for name, x in values.items()}, count)
            for t, count in enumerate(hits[v])
        ]
        own.update(tried[v][best][0])
        for name in values:
            params[name][v] = found.settings[name][v, best]
    return tried


def _val_hits(method: Method, params: Params, draw: Draw, data: SetData) -> list[int]:
    """How many validation images each variant gets right. Counts tie where fractions may not."""
    query, labels = data.val_query(method, draw)
    parts = [
        hits(logits, labels[a:b])
        for a, b, logits in engine.logits_in_parts(method, params, query, data.limit)
    ]
    counted: list[int] = torch.stack(parts).sum(0).tolist()
    return counted


def _settle(cell: Cell, draw: Draw | CacheclipError | None, race: Race) -> Outcome:
    """The cell's outcome before scoring."""
    if isinstance(draw, CacheclipError):
        return Outcome(cell, None, draw)
    return Outcome(cell, draw, race.error or race.winner or _not_finite(cell), race)


def _not_finite(cell: Cell) -> FitError:
    settings = cell.candidates[0]
    return FitError(
        "the fit is not finite or did not converge",
        where=", ".join(f"{name}={value}" for name, value in settings.items()),
        fix="use a smaller lr" if "lr" in settings else "use less extreme settings",
    )


def _scored(outcomes: list[Outcome], data: SetData) -> list[Outcome]:
    """The outcomes with test results; winners that share static settings are scored together."""
    scored = list(outcomes)
    winners = [(k, o.result) for k, o in enumerate(outcomes) if isinstance(o.result, Winner)]
    winners.sort(key=lambda item: id(item[1].method))
    for _, members in groupby(winners, key=lambda item: id(item[1].method)):
        own = list(members)
        method = own[0][1].method
        for first, last in engine.chunks([w.params for _, w in own], data.limit):
            start = perf_counter()
            part = own[first:last]
            names = part[0][1].params
            params = {name: torch.cat([w.params[name] for _, w in part]) for name in names}
            scores = score(method, params, data)
            seconds = perf_counter() - start
            for w, (k, _) in enumerate(part):
                race = outcomes[k].race
                timed = replace(race, seconds=race.seconds + seconds)
                scored[k] = replace(outcomes[k], race=timed, scores=scores.of(w))
    return scored
