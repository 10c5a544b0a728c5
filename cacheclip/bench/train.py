"""Suite `train`: CLIP-Adapter variants together, against one by one and the best torch batch.

The other fused methods follow, each against a loop over its variants.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch

from cacheclip.bench import floor
from cacheclip.bench.adapters import (
    TRAINED,
    Run,
    batched,
    eager,
    ours,
    weights_of,
)
from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.bench.synthetic import LOGIT_SCALE, Features, features
from cacheclip.errors import FitError
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Query, Task

BUDGET = {"cpu": 1e11, "cuda": 3e14}  # flop of one timed call of ours
FEWEST_STEPS = 6
MOST_STEPS = {"cpu": 100, "cuda": 10**9}
CHECKED_STEPS = 20
EAGER_VARIANTS = 2
ALPHAS = (0.2, 0.4, 0.6, 0.8)
# How far the update may differ, as a share of its length; and test accuracy, in points.
UPDATE_TOLERANCE = {"fp32": 0.02, "bf16": 0.3}
ACCURACY_TOLERANCE = 1.0


@dataclass(frozen=True)
class Recipe:
    """How a case trains."""

    batch_size: int
    optimizer: str
    schedule: str
    lr: float
    weight_decay: float
    precision: str = "fp32"


RECIPES = (
    Recipe(256, "adamw", "cosine", 1e-3, 1e-2),
    Recipe(32, "adamw", "cosine", 1e-3, 1e-2),
    Recipe(32, "sgd", "dassl", 2e-3, 5e-4),
)


def cases(setup: Setup) -> Iterator[Case]:
    """Each recipe with V variants, and with one, in fp32 and in what the engine takes itself."""
    data = features(setup.shape, setup.device)
    for variants in dict.fromkeys((setup.variants, 1)):
        for recipe in RECIPES:
            own = make_run(setup, data, replace(recipe, precision="auto"), 1, 1).precision
            for precision in dict.fromkeys(("fp32", own)):
                yield _case(setup, data, replace(recipe, precision=precision), variants)
    if setup.device.type == "cpu":  # on a GPU these train through autograd as yet
        from cacheclip.bench import family

        yield from family.cases(setup)
    if setup.shape.name == "clipart":
        from cacheclip.bench import grid

        yield grid.case(setup)


def make_run(setup: Setup, data: Features, recipe: Recipe, variants: int, steps: int) -> Run:
    """Variants that differ in seed and alpha; of the support rows what two epochs of steps need."""
    batch, device = min(recipe.batch_size, len(data.support)), setup.device
    rows = min(len(data.support) // batch, max(1, steps // 2)) * batch
    seeds = tuple(range(1, variants + 1))
    drawn = Generators(seeds, "rows", device, torch.float32).permutations(len(data.support))
    picked = drawn[:, :rows]
    epochs = max(1, steps * batch // rows)
    settings = {
        "alpha": torch.tensor([ALPHAS[v % len(ALPHAS)] for v in range(variants)], device=device),
        "lr": torch.full((variants,), recipe.lr, device=device),
        "weight_decay": torch.full((variants,), recipe.weight_decay, device=device),
    }
    return Run(
        ClipAdapter(
            batch_size=recipe.batch_size,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            epochs=epochs,
            precision=recipe.precision,
        ),
        Task(
            pool={"image": data.support},
            rows=picked,
            labels=data.labels[picked],
            text={"norm-mean": data.text},
            settings=settings,
            logit_scale=LOGIT_SCALE,
            n_classes=len(data.text),
        ),
        seeds,
    )


def _case(setup: Setup, data: Features, recipe: Recipe, variants: int) -> Case:
    one_step = make_run(setup, data, recipe, 1, 1)
    full_steps = len(data.support) // one_step.batch * setup.shape.epochs
    afforded = int(BUDGET[setup.device.type] / (variants * floor.flops(one_step)))
    steps = min(full_steps, MOST_STEPS[setup.device.type], max(FEWEST_STEPS, afforded))
    run = make_run(setup, data, recipe, variants, steps)
    short = make_run(setup, data, recipe, variants, min(steps, CHECKED_STEPS))
    few = [run.part(v, v + 1) for v in range(min(EAGER_VARIANTS, variants))]
    chunks = ours(short)[1]
    units = variants * run.steps

    def one_by_one() -> None:
        for one in few:
            eager(one)

    on_gpu = setup.device.type == "cuda"
    trained = f"B={recipe.batch_size} {recipe.optimizer} {recipe.precision}"
    return Case(
        name=f"clip-adapter V={variants} {trained}",
        unit="step of a variant",
        ours=Timed(partial(ours, run), units),
        baselines={
            "eager loop": Timed(one_by_one, len(few) * run.steps),
            "torch batch": Timed(partial(batched, run), units),
        },
        says={
            "shape": setup.shape.name,
            "data": "random",
            "variants": variants,
            "variants_at_once": chunks,
            "eager_variants": len(few),
            "epochs": setup.shape.epochs,
            "steps_timed": run.steps,
            "steps_of_a_full_run": full_steps,
            "gflop_of_a_step": floor.flops(run) / 1e9,
            "torch_batch": "compiled, CUDA graph" if on_gpu else "bmm, autograd, fused optimizer",
            **asdict(recipe),
        },
        floor={} if on_gpu else floor.parts([(run, chunks)], units),
        limit=floor.seconds(run, setup.rates) if on_gpu else None,
        whole=full_steps,
        job=f"variant of {setup.shape.epochs} epochs",
        check=lambda: _agreement(short, data, recipe),
    )


def _agreement(run: Run, data: Features, recipe: Recipe) -> dict[str, float]:
    """Ours, the eager loop and the torch batch end at the same weights and accuracy."""
    params, _ = ours(run)
    whole = batched(run)
    query = Query({"image": data.test})
    seen = {"update_against_eager": 0.0, "update_against_batch": 0.0, "points_against_eager": 0.0}
    for v in {0, run.task.variants - 1}:
        one = run.part(v, v + 1)
        start, model = one.start(), eager(one)
        trained = {name: params[name][v : v + 1] for name in TRAINED}
        loop = weights_of(model)
        batch = {name: whole[name][v : v + 1] for name in TRAINED}
        for name in TRAINED:
            moved = (loop[name] - start[name]).norm()
            for against, other in (("eager", loop), ("batch", batch)):
                off = float((trained[name] - other[name]).norm() / moved)
                key = f"update_against_{against}"
                seen[key] = max(seen[key], off)
        with torch.no_grad():
            logits = run.method.logits(start | trained, query)[0]
            theirs = model(data.test)
        points = [
            100 * float((x.argmax(-1) == data.test_labels).float().mean()) for x in (logits, theirs)
        ]
        seen["points_against_eager"] = max(seen["points_against_eager"], abs(points[0] - points[1]))
        seen["accuracy"] = points[0]
    off = max(seen["update_against_eager"], seen["update_against_batch"])
    if not (
        off <= UPDATE_TOLERANCE[recipe.precision]
        and seen["points_against_eager"] <= ACCURACY_TOLERANCE
    ):
        raise FitError(
            f"the engine and its baselines train to other weights: {seen}",
            where=f"{recipe}, {run.task.variants} variants, {run.steps} steps",
            fix="this is a bug; speed means nothing before it is found",
        )
    return seen
