"""Run the cells of a block: fit its stacks, choose by validation accuracy, and only then score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from time import perf_counter

import torch

from cacheclip.draws import Draw
from cacheclip.engine import stack as engine
from cacheclip.engine.memory import is_exhausted
from cacheclip.errors import CacheclipError, FitError, MachineError
from cacheclip.heads.temperature import label_log_p
from cacheclip.methods.base import Method, Params, Settings
from cacheclip.metrics import hits
from cacheclip.study.calibration import Calibration, calibrate
from cacheclip.study.data import SetData
from cacheclip.study.plan import Block, Cell, Stack
from cacheclip.study.race import Entrant, Point, Race, Winner
from cacheclip.study.score import Scores, score

COPIES = 6  # of the validation logits that likelihood works on at once


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: its winner, or why there is none."""

    cell: Cell
    draw: Draw | None
    result: Winner | CacheclipError
    race: Race
    calibration: Calibration | None = None  # of the winner
    scores: Scores | None = None  # of the winner alone


def run(
    block: Block,
    draws: Sequence[Draw | CacheclipError | None],
    data: SetData,
    progress: Callable[[float], None],
    notice: Callable[[str], None],
    *,
    anew: bool = False,
) -> list[Outcome]:
    """All cells of the block, in order; a cell that fails says so and the others go on.

    Args:
        block: cells of one method and shot count.
        draws: of each cell, or why there is none.
        data: the feature set.
        progress: called with the share of the block that is done.
        notice: called with a line for the user.
        anew: see `calibrate`.
    """
    races = [Race(block.policy, cell.constant) for cell in block.cells]
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
        _settle(cell, draw, race, data, anew)
        for cell, draw, race in zip(block.cells, draws, races, strict=True)
    ]
    return _scored(outcomes, data) if data.tested else outcomes


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
            members = list(zip(stack.variants, own, settings, strict=True))[first:last]
            precision = engine.precision(method, task)
            _race(block, method, params, precision, members, data, races)
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


Member = tuple[tuple[int, int], Draw | None, Settings]


def _race(
    block: Block,
    method: Method,
    params: Params,
    precision: str | None,
    members: Sequence[Member],
    data: SetData,
    races: Sequence[Race],
) -> None:
    """Validate one chunk's variants; those of a cell stand together and share their images.

    A variant that is not finite never enters, so it cannot win or push another out.
    """
    finite = engine.finite(params).tolist()
    for c, group in groupby(range(len(members)), key=lambda v: members[v][0][0]):
        positions = [v for v in group if finite[v]]
        if not positions:
            continue
        draw = members[positions[0]][1]
        own = engine.take(params, positions) if len(positions) < len(members) else params
        settings = [members[v][2] for v in positions]
        points: list[list[Point]] = [[] for _ in positions]
        if block.policy.selects and draw is not None and draw.val:
            points = _validated(method, own, settings, draw, data)
        for w, v in enumerate(positions):
            take = partial(engine.take, own, [w])
            races[c].enter(
                members[v][0][1], Entrant(settings[w], method, take, precision), points[w]
            )


def _validated(
    method: Method, params: Params, settings: Sequence[Settings], draw: Draw, data: SetData
) -> list[list[Point]]:
    """Each variant's settings on the validation images, or all points of its search."""
    query, labels = data.pictures(method, "val", draw.val, draw.val_labels)
    found = method.search(params, query, labels)
    if found is not None:
        return [
            [
                Point(
                    {**own, **{name: x[v][t].item() for name, x in found.settings.items()}},
                    int(found.hits[v][t]),
                    found.log_p[v][t],
                )
                for t in range(found.hits.shape[1])
            ]
            for v, own in enumerate(settings)
        ]
    one = COPIES * 4 * len(labels) * len(data.classnames)  # bytes
    at_once = max(1, data.limit // one)
    points: list[list[Point]] = []
    for first in range(0, len(settings), at_once):
        group = settings[first : first + at_once]
        own = params
        if len(group) < len(settings):
            own = engine.take(params, range(first, first + len(group)))
        parts = engine.logits_in_parts(method, own, query, data.limit)
        logits = torch.cat([part for _, _, part in parts], 1)  # [V, n, C]
        right, log_p = hits(logits, labels).tolist(), label_log_p(logits, labels)
        points += [[Point(s, right[v], log_p[v])] for v, s in enumerate(group)]
    return points


def _settle(
    cell: Cell, draw: Draw | CacheclipError | None, race: Race, data: SetData, anew: bool
) -> Outcome:
    """The cell's outcome before scoring."""
    if isinstance(draw, CacheclipError):
        return Outcome(cell, None, draw, race)
    if race.error or not race.winner:
        return Outcome(cell, draw, race.error or _not_finite(cell), race)
    calibration = calibrate(race.winner, race, draw, data, anew=anew)
    return Outcome(cell, draw, race.winner, race, calibration)


def _not_finite(cell: Cell) -> FitError:
    settings = cell.candidates[0]
    return FitError(
        "the fit is not finite or did not converge",
        where=", ".join(f"{name}={value}" for name, value in settings.items()),
        fix="use a smaller lr" if "lr" in settings else "use less extreme settings",
    )


def temperature(outcome: Outcome) -> float:
    """What the winner's logits are divided by; 1 where there was too little to fit it on."""
    return outcome.calibration.temperature if outcome.calibration else 1.0


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
            warmth = [temperature(outcomes[k]) for k, _ in part]
            scores = score(method, params, data, warmth)
            seconds = perf_counter() - start
            for w, (k, _) in enumerate(part):
                race = outcomes[k].race
                timed = replace(race, seconds=race.seconds + seconds)
                scored[k] = replace(outcomes[k], race=timed, scores=scores.of(w))
    return scored
