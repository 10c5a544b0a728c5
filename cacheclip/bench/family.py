"""Suite `train`, the rest of the family: each fused method against a loop over its runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from cacheclip.bench import released
from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.bench.synthetic import LOGIT_SCALE, Features, features
from cacheclip.engine import memory, stack as engine
from cacheclip.errors import FitError
from cacheclip.methods.base import Method, Params, Settings, Trained, get
from cacheclip.task import Generators, Task, unit

LOOPED = 2  # runs of the loop that are timed
SECONDS = 0.5  # that all runs together should take
CHECKED_STEPS = 10
TOLERANCE = 0.02  # how far the update may differ, as a share of its length
PROMPTS = 4  # a class
TEXT_NORM = 10.0


@dataclass(frozen=True)
class Runs:
    """V runs of one method: its static settings, what they read, and their seeds."""

    method: Trained
    task: Task
    seeds: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Steps of a run."""
        seen = self.method.data(self.task)
        return int(self.method.settings["epochs"]) * self.method.per_epoch(seen)

    def part(self, first: int, last: int) -> "Runs":
        """The runs first..last-1."""
        return Runs(self.method, self.task.part(slice(first, last)), self.seeds[first:last])

    def lasting(self, epochs: int) -> "Runs":
        """The same for that many epochs."""
        shorter = type(self.method)(**{**self.method.settings, "epochs": epochs})
        return replace(self, method=shorter)


def cases(setup: Setup) -> Iterator[Case]:
    """One a method that has a loop to be held against."""
    data = features(setup.shape, setup.device)
    for name in released.MODULES:
        yield _case(setup, runs_of(name, setup, data))


def runs_of(name: str, setup: Setup, data: Features) -> Runs:
    """The constants of a method, of every second run at half the learning rate."""
    method = get(name)
    constants = method.fixed(setup.shape.shots, LOGIT_SCALE)
    lr = float(constants["lr"])
    settings = [constants | {"lr": lr / (1 + v % 2)} for v in range(setup.variants)]
    own = method.of(constants)
    if not isinstance(own, Trained):
        raise TypeError(f"{name} has no steps")
    return Runs(own, task_of(own, data, settings), tuple(range(1, setup.variants + 1)))


def task_of(method: Method, data: Features, settings: Sequence[Settings]) -> Task:
    """All support pictures for each variant, in whatever layers and text the method reads."""
    device = data.labels.device
    rows = torch.arange(len(data.support), device=device).expand(len(settings), -1)
    encoder = _encoder(data)
    layers, text = _layers(data, encoder["projection"]), _text(data)
    return Task(
        pool={layer: layers[layer] for layer in method.reads.support},
        rows=rows,
        labels=data.labels[rows],
        text={ensemble: text[ensemble] for ensemble in method.reads.text},
        settings=method.numbers_of(settings, device),
        logit_scale=LOGIT_SCALE,
        n_classes=len(data.text),
        encoder={part: encoder[part] for part in method.reads.encoder},
    )


def _encoder(data: Features) -> dict[str, Tensor]:
    """Last projections that lose nothing: orthonormal columns, for pictures from 3 D / 2 wide."""
    D = data.support.shape[1]
    g = torch.Generator().manual_seed(1)
    wide = torch.linalg.qr(torch.randn(3 * D // 2, D, generator=g))[0].to(data.support)
    square = torch.linalg.qr(torch.randn(D, D, generator=g))[0].to(data.support)
    return {
        "projection": wide.contiguous(),
        "projection-bias": torch.zeros(D).to(wide),
        "text-projection": square.contiguous(),
    }


def _layers(data: Features, projection: Tensor) -> dict[str, Tensor]:
    """The support pictures in each layer that a method reads."""
    return {
        "image": data.support,
        "image-norm": data.support.new_full((len(data.support), 1), TEXT_NORM),
        "pre-projection": data.support @ projection.mT,
    }


def _text(data: Features) -> dict[str, Tensor]:
    """The class text in each form that a method reads; prompts of a class differ a little."""
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(len(data.text), PROMPTS, data.text.shape[1], generator=g).to(data.text)
    prompts = unit(data.text[:, None] + 0.5 * unit(noise))
    return {
        "norm-mean": data.text,
        "all:norm-mean": data.text,
        "raw-mean": TEXT_NORM * data.text,
        "per-prompt": TEXT_NORM * prompts,
        "all:per-prompt": TEXT_NORM * prompts,
    }


def ours(runs: Runs) -> tuple[Params, list[int]]:
    """What the runs end with through the engine, and how many each chunk held."""
    limit = memory.default_limit(runs.task.device)
    fitted = list(engine.fit(runs.method, runs.task, runs.seeds, lambda share: None, limit))
    trained = {n: torch.cat([p[n] for _, _, p in fitted]) for n in runs.method.trainable}
    return trained, [last - first for first, last, _ in fitted]


def _case(setup: Setup, runs: Runs) -> Case:
    runs = runs.lasting(_epochs(runs))
    few = [runs.part(v, v + 1) for v in range(min(LOOPED, len(runs.seeds)))]
    short = runs.lasting(max(1, CHECKED_STEPS // runs.lasting(1).steps))
    settings = runs.method.settings
    batch = _batch(runs)

    def one_by_one() -> None:
        for one in few:
            released.train(one.method, one.task, one.seeds[0])

    return Case(
        name=f"{runs.method.name} V={len(runs.seeds)} B={batch} {settings['optimizer']} fp32",
        unit="step of a variant",
        ours=Timed(partial(ours, runs), len(runs.seeds) * runs.steps),
        baselines={"loop over variants": Timed(one_by_one, len(few) * runs.steps)},
        says={
            "shape": setup.shape.name,
            "data": "random",
            "variants": len(runs.seeds),
            "variants_at_once": ours(short)[1],
            "looped_variants": len(few),
            "steps_timed": runs.steps,
            "batch_size": batch,
            "precision": "fp32",
            **{n: settings[n] for n in ("optimizer", "schedule", "epochs")},
        },
        check=lambda: _agreement(short),
    )


def _epochs(runs: Runs) -> int:
    """Epochs that take about `SECONDS`, at least one and no more than the recipe has."""
    one = runs.lasting(1)
    ours(one)  # warm: how many fit into a chunk is measured but once
    start = perf_counter()
    ours(one)
    afforded = int(SECONDS / (perf_counter() - start))
    return max(1, min(afforded, int(runs.method.settings["epochs"])))


def _batch(runs: Runs) -> int:
    """Rows of a step."""
    one = runs.part(0, 1)
    seen = one.method.data(one.task)
    random = Generators(one.seeds, "order", seen.device, seen.dtype)
    return next(one.method.order(seen, random)).shape[1]


def _agreement(runs: Runs) -> dict[str, float]:
    """The engine and the loop end at the same numbers, first run and last."""
    trained, _ = ours(runs)
    worst = 0.0
    for v in {0, len(runs.seeds) - 1}:
        one = runs.part(v, v + 1)
        looped = released.train(one.method, one.task, one.seeds[0])
        random = Generators(one.seeds, "init", one.task.device, one.task.dtype)
        start = one.method.init(one.task, random)
        for name, x in looped.items():
            off = (trained[name][v : v + 1] - x).norm() / (x - start[name]).norm()
            worst = max(worst, float(off))
    if not worst <= TOLERANCE:
        raise FitError(
            f"the engine and the loop of {runs.method.name} train to other numbers: {worst:.1e}",
            where=f"{len(runs.seeds)} variants, {runs.steps} steps",
            fix="this is a bug; speed means nothing before it is found",
        )
    return {"update_against_loop": worst}
