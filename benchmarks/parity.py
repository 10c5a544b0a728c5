"""Does speed cost accuracy? The engine against the fp32 eager loop, paired over draws and starts.

    python benchmarks/parity.py [FILE]      after `cacheclip extract --dataset clipart`

Twenty seeds or as many more as it takes to know the difference to 0.1 points, 16 shots,
CLIP-Adapter: the embedded pictures and random Food-101-shaped features; in fp32, and where this
machine would train in bf16, in that too. Prints the mean difference of test
accuracy in points with its 95 % interval, and writes it as JSON to FILE.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev

import torch

from cacheclip.bench.adapters import Run, eager, ours, weights_of
from cacheclip.bench.harness import Setup
from cacheclip.bench.machine import Rates, describe
from cacheclip.bench.shapes import SHAPES
from cacheclip.bench.synthetic import features
from cacheclip.bench.train import Recipe, make_run
from cacheclip.engine.memory import default_limit
from cacheclip.methods.base import Params
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.metrics import hits
from cacheclip.store.home import Home
from cacheclip.study.data import SetData
from cacheclip.study.score import score
from cacheclip.task import Query

SEEDS, MOST_SEEDS = 20, 100  # at once, and in all
HALF_WIDTH = 0.1  # of the interval, in points: seeds are added until it is below
STUDENT = 2.093  # 97.5 % of Student's t with 19 degrees of freedom; less with more
SHOTS = 16
RECIPES = (
    Recipe(32, "adamw", "cosine", 1e-3, 1e-2),
    Recipe(32, "sgd", "dassl", 2e-3, 5e-4),
    Recipe(256, "adamw", "cosine", 1e-3, 1e-2),
    Recipe(256, "adamw", "cosine", 1e-3, 1e-2, "auto"),
)

Accuracy = Callable[[Run, Params], list[float]]  # percent of each variant
Make = Callable[[Recipe, tuple[int, ...]], tuple[Run, Accuracy]]


def embedded(recipe: Recipe, seeds: tuple[int, ...]) -> tuple[Run, Accuracy]:
    """The embedded pictures: a seed is a draw and a start; 200 epochs."""
    device = torch.device("cpu")
    data = SetData(Home.resolve().find("clipart", "nano"), device, default_limit(device))
    lr = (
        recipe.lr if recipe.optimizer != "sgd" else ClipAdapter.fixed(SHOTS, data.logit_scale)["lr"]
    )
    setting = {"alpha": 0.2, "lr": lr, "weight_decay": recipe.weight_decay}
    draws = [data.draw(SHOTS, seed) for seed in seeds]
    task = data.task(ClipAdapter, draws, [setting] * len(seeds))
    method = ClipAdapter(
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        precision=recipe.precision,
    )

    def accuracy(run: Run, params: Params) -> list[float]:
        percent: list[float] = (100 * score(run.method, params, data).top1).tolist()
        return percent

    return Run(method, task, seeds), accuracy


def random(recipe: Recipe, seeds: tuple[int, ...]) -> tuple[Run, Accuracy]:
    """Random features of Food-101's shape, 20 epochs, tested on 20,000 rows."""
    setup = Setup(SHAPES["food101-vitb32"], seeds[-1], torch.device("cpu"), Rates(0.0, {}))
    data = features(setup.shape, setup.device, test=20_000)
    epoch = len(data.support) // recipe.batch_size
    run = make_run(setup, data, recipe, seeds[-1], 2 * epoch)
    whole = ClipAdapter(**{**run.method.settings, "epochs": 20})

    def accuracy(run: Run, params: Params) -> list[float]:
        found = []
        for v in range(len(run.seeds)):
            one = {name: x[v : v + 1] for name, x in params.items()}
            right = hits(run.method.logits(one, Query({"image": data.test})), data.test_labels)
            found.append(100 * float(right) / len(data.test))
        return found

    return Run(whole, run.task, run.seeds).part(seeds[0] - 1, seeds[-1]), accuracy


def paired(run: Run, accuracy: Accuracy) -> tuple[list[float], list[float]]:
    """Test accuracies in percent of the engine and of the eager loop, seed by seed."""
    fast = accuracy(run, run.start() | ours(run)[0])
    slow = []
    for v in range(len(run.seeds)):
        one = run.part(v, v + 1)
        slow += accuracy(one, one.start() | weights_of(eager(one)))
    return fast, slow


def interval(apart: list[float]) -> float:
    """Half the width of the 95 % interval of the mean."""
    return STUDENT * stdev(apart) / len(apart) ** 0.5


def measured(make: Make, recipe: Recipe) -> tuple[str, list[float], list[float]]:
    """Precision, the eager loop's accuracies, and how far the engine's lie from them."""
    slow: list[float] = []
    apart: list[float] = []
    while not apart or (interval(apart) >= HALF_WIDTH and len(apart) < MOST_SEEDS):
        first = len(apart) + 1
        run, accuracy = make(recipe, tuple(range(first, first + SEEDS)))
        if recipe.precision == "auto" and run.precision == "fp32":
            break  # the same once more
        engine, loop = paired(run, accuracy)
        slow += loop
        apart += [a - b for a, b in zip(engine, loop, strict=True)]
    return run.precision, slow, apart


def main() -> None:
    """Print a line a case, and write the record if asked to."""
    found = []
    makes: dict[str, Make] = {"clipart, nano": embedded, "random, food101-vitb32": random}
    for data, make in makes.items():
        for recipe in RECIPES:
            precision, slow, apart = measured(make, recipe)
            if not apart:
                continue
            case = asdict(recipe) | {"data": data, "precision": precision, "seeds": len(apart)}
            case |= {"eager": mean(slow), "difference": mean(apart), "half_width": interval(apart)}
            found.append(case)
            print(
                f"{data}  B={recipe.batch_size} {recipe.optimizer} {precision}, {len(apart)} seeds:"
                f" eager {mean(slow):.2f} %, engine {mean(apart):+.3f} ± {interval(apart):.3f}",
                flush=True,
            )
    if len(sys.argv) > 1:
        machine = describe(torch.device("cpu"), "python benchmarks/parity.py FILE")
        Path(sys.argv[1]).write_text(json.dumps(machine | {"cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
