"""The case `compare-250`: a whole grid on the embedded pictures, all its stacks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from cacheclip.bench import floor
from cacheclip.bench.adapters import Run, eager, ours, weights_of
from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.bench.synthetic import LOGIT_SCALE, features
from cacheclip.engine import memory
from cacheclip.errors import FitError, StoreError
from cacheclip.methods.base import Params, Settings
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.metrics import hits
from cacheclip.select.fixed import POLICY
from cacheclip.store.home import Home
from cacheclip.study.data import SetData
from cacheclip.study.plan import Block, blocks
from cacheclip.study.score import score
from cacheclip.task import Generators, Query, Task

SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3, 4, 5)
AXES = {"alpha": (0.1, 0.2, 0.4, 0.6, 0.8), "lr": (1e-3, 3e-4)}
STATIC: Settings = {"batch_size": 32, "optimizer": "adamw"}
DATASET, ENCODER = "clipart", "nano"
ROUNDS = 3
POINTS = 2.0  # of test accuracy that the two paths may differ by, in any variant


@dataclass(frozen=True)
class Grid:
    """A stack a shot count.

    Attributes:
        data: where the features come from.
        runs: the stacks.
        accuracy: test accuracy in percent of a run's params, [V].
    """

    data: str
    runs: list[Run]
    accuracy: Callable[[Run, Params], list[float]]


def case(setup: Setup) -> Case:
    """Training time of all stacks, against the eager loop on two variants of each shot count."""
    try:
        grid = _embedded(setup)
    except StoreError:
        grid = _random(setup)
    few = [run.part(v, v + 1) for run in grid.runs for v in (0, run.task.variants - 1)]
    variants = sum(run.task.variants for run in grid.runs)
    chunks = [ours(_first_epoch(run))[1] for run in grid.runs]
    steps = sum(run.steps * run.task.variants for run in grid.runs) / variants
    precision = grid.runs[0].precision
    least = sum(
        run.task.variants * run.steps * floor.seconds(run, setup.rates) for run in grid.runs
    )
    on_gpu = setup.device.type == "cuda"
    return Case(
        name=f"compare-{variants} B={STATIC['batch_size']} {STATIC['optimizer']} {precision}",
        unit="variant",
        ours=Timed(partial(_together, grid.runs), variants),
        baselines={"eager loop": Timed(partial(_one_by_one, few), len(few))},
        says={
            "shape": setup.shape.name,
            "data": grid.data,
            "shots": SHOTS,
            "seeds": SEEDS,
            **AXES,
            **STATIC,
            "epochs": setup.shape.epochs,
            "schedule": ClipAdapter.table["schedule"].default,
            "weight_decay": ClipAdapter.table["weight_decay"].default,
            "precision": precision,
            "variants": variants,
            "variants_at_once": chunks,
            "eager_variants": f"first and last of each shot count, {len(few)} in all",
            "steps_timed": "all",
            "steps_of_a_variant_on_average": steps,
        },
        floor={} if on_gpu else floor.parts(list(zip(grid.runs, chunks, strict=True)), variants),
        limit=least / variants if on_gpu else None,
        whole=variants,
        job=f"{variants} variants",
        check=lambda: _agreement(grid, few),
        rounds=ROUNDS,
        warm_up=False,
    )


def _embedded(setup: Setup) -> Grid:
    """The feature set as it lies in the home folder."""
    found = Home.resolve().find(DATASET, ENCODER)
    data = SetData(found, setup.device, memory.default_limit(setup.device))

    def run(block: Block) -> Run:
        method, seeds, settings = _stack(block)
        draws = [data.draw(block.shots, seed) for seed in seeds]
        return Run(method, data.task(ClipAdapter, draws, settings), seeds)

    def accuracy(run: Run, params: Params) -> list[float]:
        percent: list[float] = (100 * score(run.method, params, data).top1).tolist()
        return percent

    return Grid(f"{DATASET}, {ENCODER}", [run(b) for b in _plan(setup, data.logit_scale)], accuracy)


def _random(setup: Setup) -> Grid:
    """Random features of the same shape; a seed draws its rows of each class."""
    data = features(setup.shape, setup.device)
    shots, n_classes = setup.shape.shots, setup.shape.classes

    def run(block: Block) -> Run:
        method, seeds, settings = _stack(block)
        order = Generators(seeds, "rows", setup.device, torch.float32).permutations(shots)
        start = torch.arange(n_classes, device=setup.device)[:, None] * shots
        rows = (start + order[:, None, : block.shots]).flatten(1)  # [V, N]
        task = Task(
            pool={"image": data.support},
            rows=rows,
            labels=data.labels[rows],
            text={"norm-mean": data.text},
            settings=ClipAdapter.numbers_of(settings, setup.device),
            logit_scale=LOGIT_SCALE,
            n_classes=n_classes,
        )
        return Run(method, task, seeds)

    def accuracy(run: Run, params: Params) -> list[float]:
        logits = run.method.logits(params, Query({"image": data.test}))
        percent = 100 * hits(logits, data.test_labels) / len(data.test)
        return [float(p) for p in percent]

    return Grid("random", [run(block) for block in _plan(setup, LOGIT_SCALE)], accuracy)


def _plan(setup: Setup, logit_scale: float) -> list[Block]:
    """What `compare --select fixed` makes of the grid."""
    once = {name: (value,) for name, value in {**STATIC, "epochs": setup.shape.epochs}.items()}
    choices = {ClipAdapter.name: {**AXES, **once}}
    return blocks([ClipAdapter], SHOTS, SEEDS, POLICY, choices, logit_scale)


def _stack(block: Block) -> tuple[ClipAdapter, tuple[int, ...], list[Settings]]:
    """The method, seeds and settings of a block's one stack."""
    (stack,) = block.stacks
    seeds = tuple(variant.seed for variant in stack.variants)
    settings = [variant.settings for variant in stack.variants]
    return ClipAdapter(**stack.static), seeds, settings


def _together(runs: list[Run]) -> list[Params]:
    return [ours(run)[0] for run in runs]


def _one_by_one(few: list[Run]) -> list[Params]:
    return [weights_of(eager(run)) for run in few]


def _agreement(grid: Grid, few: list[Run]) -> dict[str, list[float]]:
    """Test accuracies of both paths, first and last variant of each shot count."""
    fast = [
        accuracy
        for run, params in zip(grid.runs, _together(grid.runs), strict=True)
        for v in (0, run.task.variants - 1)
        for accuracy in _scored(
            grid, run.part(v, v + 1), {n: x[v : v + 1] for n, x in params.items()}
        )
    ]
    slow = [
        accuracy
        for run, params in zip(few, _one_by_one(few), strict=True)
        for accuracy in _scored(grid, run, params)
    ]
    if max(abs(a - b) for a, b in zip(fast, slow, strict=True)) > POINTS:
        raise FitError(
            f"the engine and the eager loop train to other accuracies: {fast} and {slow}",
            where=f"{grid.data}, shots {SHOTS}",
            fix="this is a bug; speed means nothing before it is found",
        )
    return {"accuracy": fast, "accuracy_of_eager_loop": slow}


def _scored(grid: Grid, run: Run, trained: Params) -> list[float]:
    return grid.accuracy(run, run.start() | trained)


def _first_epoch(run: Run) -> Run:
    """The same stack for one epoch, which shows how it is cut into chunks."""
    return replace(run, method=ClipAdapter(**{**run.method.settings, "epochs": 1}))
