"""A small problem in float64 for checks of methods against loops that are written out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.methods.base import Method, Params, Value
from cacheclip.task import Generators, Query, Task, class_text, unit

C, D, SHOTS, N = 4, 6, 3, 12
SEEDS = [5, 8]


def normal(*shape: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """Two variants on pictures of their own, and what one of them is by itself."""

    task: Task
    method: Method
    scale: float

    def variant(self, v: int) -> tuple[Tensor, Tensor]:
        """The support of variant v: the first layer [N, .] and labels [N]."""
        layer = next(iter(self.task.pool.values()))
        return layer[self.task.rows[v] * self.task.views], self.task.labels[v]

    def setting(self, name: str, v: int) -> float:
        return float(self.task.settings[name][v])

    def head(self) -> Params:
        """What both serve."""
        ((_, _, learned),) = engine.fit(self.method, self.task, SEEDS, lambda share: None, 10**9)
        with torch.no_grad():
            return self.method.head(learned, self.task)

    def logits(self, query: Mapping[str, Tensor]) -> Tensor:
        return self.method.logits(self.head(), Query(query))

    def orders(self, v: int) -> Any:
        """The order of the pictures in each epoch of variant v, one after the other."""
        random = Generators([SEEDS[v]], "order", self.task.device, self.task.dtype)
        while True:
            yield random.permutations(N)[0]


def problem(
    method: type[Method],
    settings: Sequence[Mapping[str, Value]],
    *,
    layer: str = "image",
    encoder: Mapping[str, Any] | None = None,
    text: Mapping[str, Tensor] | None = None,
    views: int = 1,
    scale: float = 100.0,
    width: int = D,
) -> Problem:
    """Two variants under the method's constants, changed by `settings` of each."""
    whole = [{**method.fixed(SHOTS, scale), **own} for own in settings]
    made = method.of(whole[0])
    pictures = normal(2 * N * views, width, seed=1)
    prompts = 4 * normal(C, 3, D, seed=2) + 1
    known = [name for name in made.reads.text if name not in (text or {})]
    ensembles = class_text(prompts, [name.rpartition(":")[2] for name in known])
    task = Task(
        pool={layer: unit(pictures) if layer == "image" else pictures},
        rows=torch.stack([torch.arange(N), torch.arange(N, 2 * N).flip(0)]),
        labels=torch.stack([torch.arange(N) % C, torch.arange(N) // SHOTS]),
        text={name: ensembles[name.rpartition(":")[2]] for name in known} | dict(text or {}),
        settings=method.numbers_of(whole, dtype=torch.float64),
        logit_scale=scale,
        n_classes=C,
        views=views,
        encoder=encoder or {},
    )
    return Problem(task, made, scale)


def dassl(lr: float, epochs: int) -> list[float]:
    """The rate of each epoch."""
    return [1e-5, *(lr * (1 + cos(pi * (e - 1) / epochs)) / 2 for e in range(1, epochs))]
