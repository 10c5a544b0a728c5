"""Suite `search`: the linear probe's whole path, Tip-Adapter's alpha and beta, closed forms."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.bench import closed
from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.bench.synthetic import LOGIT_SCALE, Features, features
from cacheclip.engine import memory, stack as engine
from cacheclip.errors import FitError
from cacheclip.heads.cache import Cache
from cacheclip.heads.cache_search import GRID, search
from cacheclip.heads.logistic import TOLERANCE as TOLERANCES
from cacheclip.methods.linear_probe import LinearProbe
from cacheclip.task import Generators, Task

SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)
PENALTIES = tuple(10.0**k for k in range(-3, 4))
ROUNDS = 3
TOLERANCE = 1e-6  # on the mean objective
USUAL: dict[str, Any] = {"solver": "lbfgs", "tol": 1e-4, "max_iter": 1000}  # tol is the default
VAL_SHOTS = 4
ALPHAS = tuple(0.1 + 2.9 / 20 * k for k in range(20))  # the released grid's
POINTS = 40  # of the released loop's 4,000 that are timed


def cases(setup: Setup) -> Iterator[Case]:
    """The probe's problems against scikit-learn, the two of Tip-Adapter, then the closed forms."""
    data = features(replace(setup.shape, shots=max(SHOTS)), setup.device)
    yield _probe(setup, data)
    yield _tip(setup)
    yield from closed.cases(setup)


def _probe(setup: Setup, data: Features) -> Case:
    tasks = [_problems(data, shots) for shots in SHOTS]
    total = len(SHOTS) * len(SEEDS) * len(PENALTIES)
    return Case(
        name=f"logistic regression, {total} problems",
        unit="problem",
        ours=Timed(partial(_together, tasks), total),
        baselines={
            "scikit-learn": Timed(partial(_one_by_one, tasks, len(SEEDS)), total),
            "scikit-learn, 1 thread": Timed(partial(_one_by_one, tasks, len(SEEDS), 1), total),
        },
        says={
            "shape": setup.shape.name,
            "data": "random",
            "shots": SHOTS,
            "seeds": SEEDS,
            "C": PENALTIES,
            "precision": "fp32",
            "optimizer": f"L-BFGS to an expected fall of {TOLERANCES[torch.float32]:g} a row",
            "batch_size": "all rows",
            "epochs": None,
            "scikit_learn": USUAL | {"dtype": "float32", "problems_timed": total},
        },
        whole=total,
        job=f"{total} problems",
        check=lambda: _objectives(tasks),
        rounds=ROUNDS,
        warm_up=False,
    )


def _problems(data: Features, shots: int) -> Task:
    """Every seed and C of one shot count, seed by seed."""
    device = data.labels.device
    per_class = max(SHOTS)
    n_classes = len(data.labels) // per_class
    drawn = Generators(SEEDS, "rows", device, torch.float32).permutations(per_class)[:, :shots]
    start = torch.arange(n_classes, device=device)[:, None] * per_class
    rows = (start + drawn[:, None]).flatten(1)  # [seeds, N]
    rows = rows.repeat_interleave(len(PENALTIES), 0)
    return Task(
        pool={"image": data.support},
        rows=rows,
        labels=data.labels[rows],
        text={},
        settings={"C": torch.tensor(PENALTIES, device=device).repeat(len(SEEDS))},
        logit_scale=LOGIT_SCALE,
        n_classes=n_classes,
    )


def _together(tasks: list[Task]) -> list[tuple[Tensor, Tensor]]:
    """Weight [V, C, D] and bias [V, C] of each shot count, through the engine."""
    found = []
    for task in tasks:
        limit = memory.default_limit(task.device)
        seeds = [0] * task.variants
        parts = [p for _, _, p in engine.fit(LinearProbe(), task, seeds, lambda share: None, limit)]
        found.append(
            (torch.cat([p["weight"] for p in parts]), torch.cat([p["bias"] for p in parts]))
        )
    return found


def _one_by_one(
    tasks: list[Task], seeds: int, threads: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """The problems of the first seeds with scikit-learn, in the order of `_together`.

    Small products gain nothing from threads, so it is also timed with one.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    found = []
    for task in tasks:
        fitted = []
        for v in range(seeds * len(PENALTIES)):
            x = task.pool["image"][task.rows[v]].cpu().numpy()
            y, penalty = task.labels[v].cpu().numpy(), float(task.settings["C"][v])
            with warnings.catch_warnings():
                # Few rows a class; steps that ran out: it counts as it is.
                warnings.simplefilter("ignore", UserWarning)
                with threadpool_limits(threads):
                    fitted.append(LogisticRegression(C=penalty, **USUAL).fit(x, y))
        weights = torch.stack([torch.from_numpy(f.coef_) for f in fitted])
        found.append((weights, torch.stack([torch.from_numpy(f.intercept_) for f in fitted])))
    return found


def _objectives(tasks: list[Task]) -> dict[str, float]:
    """Nowhere is our objective above scikit-learn's, on the first seed's problems."""
    worst = -torch.inf
    one_by_one = _one_by_one(tasks, 1)
    for task, ours, theirs in zip(tasks, _together(tasks), one_by_one, strict=True):
        x, labels = task.pool["image"][task.rows[0]], task.labels[0]
        for v, penalty in enumerate(PENALTIES):
            own, other = (_objective(x, labels, w[v], b[v], penalty) for w, b in (ours, theirs))
            worst = max(worst, own - other) if own == own else torch.inf
    if worst > TOLERANCE:
        raise FitError(
            f"an objective lies {worst:.1e} a row above scikit-learn's",
            where=f"C {PENALTIES}, shots {SHOTS}",
            fix="this is a bug; speed means nothing before it is found",
        )
    return {"mean_objective_above_scikit_learn_at_most": worst}


def _objective(x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, penalty: float) -> float:
    weight, bias = weight.to(x.device, torch.float64), bias.to(x.device, torch.float64)
    loss = functional.cross_entropy(x.double() @ weight.T + bias, labels)
    return float(loss + weight.square().sum() / (2 * penalty * len(x)))


def _tip(setup: Setup) -> Case:
    shape = setup.shape
    data = features(shape, setup.device, test=VAL_SHOTS * shape.classes)
    x, labels, keys = data.test, data.test_labels, data.support
    zero_shot = LOGIT_SCALE * x @ data.text.T  # [n, C]
    cache = Cache(keys, data.labels)
    betas = GRID.values().to(x)  # [P]
    values = functional.one_hot(data.labels, shape.classes).to(x.dtype)  # [M, C]

    def ours() -> Tensor:
        """The best count of each beta, over all alphas."""
        return search(x, cache, zero_shot, labels)[1]

    def grid() -> Tensor:
        """The same over the 20 alphas: one product, one exp a beta, alpha elementwise."""
        affinity = x @ keys.T - 1
        best = []
        for beta in betas:
            votes = (beta * affinity).exp() @ values  # [n, C]
            right = [((zero_shot + a * votes).argmax(-1) == labels).sum() for a in ALPHAS]
            best.append(torch.stack(right).max())
        return torch.stack(best)

    def released() -> None:
        """The loop of the released code: every product at every point."""
        for point in range(POINTS):
            beta, alpha = betas[point % len(betas)], ALPHAS[point % len(ALPHAS)]
            affinity = x @ keys.T
            votes = ((-1) * (beta - beta * affinity)).exp() @ values
            logits = zero_shot + votes * alpha
            (logits.argmax(-1) == labels).float().mean().item()

    points = len(betas) * len(ALPHAS)
    return Case(
        name=f"tip-adapter search, {len(betas)} betas, {len(x)} rows, {len(keys)} keys",
        unit="search",
        ours=Timed(ours),
        baselines={
            f"grid of {points:,}": Timed(grid),
            "released loop": Timed(released, POINTS / points),
        },
        says={
            "shape": shape.name,
            "data": "random",
            "betas": len(betas),
            "alphas": {"ours": "the whole real line", "grid": ALPHAS},
            "rows": len(x),
            "keys": len(keys),
            "precision": "fp32",
            "batch_size": "all rows",
            "epochs": None,
            "optimizer": None,
            "released_points_timed": POINTS,
        },
        job="search",
        check=lambda: _never_worse(ours(), grid()),
    )


def _never_worse(ours: Tensor, grid: Tensor) -> dict[str, int]:
    """The optimum is as good as the grid's, and each beta's too but for a row on a tie's edge."""
    behind = int((grid - ours).max())
    if ours.max() < grid.max() or behind > 1:
        raise FitError(
            f"the exact search finds {int(ours.max())} rows, the grid {int(grid.max())}",
            where=f"tip-adapter search; {behind} rows behind at some beta",
            fix="this is a bug; speed means nothing before it is found",
        )
    return {
        "best_count": int(ours.max()),
        "best_count_of_grid": int(grid.max()),
        "behind_at_most": behind,
    }
