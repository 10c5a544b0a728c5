"""One few-shot problem for V variants at once, as tensors on the device. It holds no test labels.

Features stay one shared matrix a layer (the pool); a variant differs only in which rows it reads,
in its settings, and in its seed. That is what lets a thousand runs share one copy.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from cacheclip.errors import InputError
from cacheclip.kernels.launch import Workspace


@dataclass(frozen=True)
class Query:
    """The layers of some pictures, just those that a method declares in `needs`.

    A layer is [n, ...] when all variants look at the same pictures and [V, n, ...] when each looks
    at its own. Layers: `image` [., D] unit rows; `image-norm` [., 1] the norms taken off them;
    `image/views` [., W, D] raw rows of W seeded views; `pre-projection` [., E] raw; `patches`
    [., P, D] raw.
    """

    layers: Mapping[str, Tensor]

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self.layers:
            have = ", ".join(self.layers) or "none"
            raise KeyError(f"layer {layer!r} is not in `needs` of this method (it has: {have})")
        return self.layers[layer]

    def __len__(self) -> int:
        """Pictures of one variant (of all variants, where they share them)."""
        layer = next(iter(self.layers))
        return self.layers[layer].shape[_row_axis(layer, self.layers[layer])]

    def part(self, first: int, last: int) -> "Query":
        """The pictures first..last-1 of every variant."""
        return Query(
            {
                name: x.narrow(_row_axis(name, x), first, last - first)
                for name, x in self.layers.items()
            }
        )


def _row_axis(layer: str, x: Tensor) -> int:
    inner = 2 if layer in ("image/views", "patches") else 1
    return x.ndim - inner - 1


@dataclass(frozen=True)
class Batch:
    """What one step sees: rows [V, B] of the pool, their labels [V, B], and the settings [V].

    `weights` [V, B] is what each picture counts in the loss, None where that is 1.
    `work` holds memory by name that the steps of one run share; see `kernels.launch.Workspace`.
    """

    pool: Mapping[str, Tensor]
    rows: Tensor
    labels: Tensor
    settings: Mapping[str, Tensor]
    work: Mapping[str, Workspace]
    weights: Tensor | None = None

    @cached_property
    def query(self) -> Query:
        """The pictures, layers [V, B, ...]: a copy that a fused kernel does without."""
        return Query({name: x[self.rows] for name, x in self.pool.items()})


@dataclass(frozen=True)
class Task:
    """The support sets of V variants of one method on one data set.

    Attributes:
        pool: layer -> [R, ...], the rows that any variant reads.
        rows: [V, N] int64, each variant's support as rows of the pool.
        labels: [V, N] int64.
        text: `norm-mean` or `raw-mean` [C, D], `per-prompt` [C, T, D] raw, as declared.
        settings: the method's vector settings, each [V].
        logit_scale: the encoder's exp(logit_scale).
        n_classes: C.
        weights: [V, N], what each support picture counts in a loss; None where that is 1.
    """

    pool: Mapping[str, Tensor]
    rows: Tensor
    labels: Tensor
    text: Mapping[str, Tensor]
    settings: Mapping[str, Tensor]
    logit_scale: float
    n_classes: int
    weights: Tensor | None = None

    @property
    def variants(self) -> int:
        """V."""
        return self.rows.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.rows.device

    @property
    def dtype(self) -> torch.dtype:
        """What the features are computed in."""
        return next(iter(self.pool.values())).dtype

    def support(self) -> Query:
        """Every variant's support set, layers [V, N, ...]."""
        return Query({name: x[self.rows] for name, x in self.pool.items()})

    def class_text(self, ensemble: str) -> Tensor:
        """Text of the classes as every variant sees it: [V, C, D], one copy behind all."""
        text = self.text[ensemble]
        return text.expand(self.variants, *text.shape)

    def ordered(self, index: Tensor) -> "Task":
        """The support pictures at positions `index` [V, n] of each variant's rows."""
        return replace(
            self,
            rows=self.rows.gather(1, index),
            labels=self.labels.gather(1, index),
            weights=None if self.weights is None else self.weights.gather(1, index),
        )

    def batch(self, first: int, last: int, work: Mapping[str, Workspace]) -> Batch:
        """The support pictures first..last-1 of every variant."""
        rows, labels = self.rows[:, first:last], self.labels[:, first:last]  # [V, B]
        weights = None if self.weights is None else self.weights[:, first:last]
        return Batch(self.pool, rows, labels, self.settings, work, weights)

    def part(self, which: slice | Tensor) -> "Task":
        """Some of the variants, by a slice or by their numbers."""
        return replace(
            self,
            rows=self.rows[which],
            labels=self.labels[which],
            settings={name: x[which] for name, x in self.settings.items()},
            weights=None if self.weights is None else self.weights[which],
        )


def unit(x: Tensor) -> Tensor:
    """Rows of x divided by their L2 norm."""
    norm: Tensor = x.norm(dim=-1, keepdim=True)
    return x / norm.clamp_min(1e-12)


def class_text(per_prompt: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The text ensembles that methods ask for, from raw per-prompt features [C, T, D].

    `norm-mean` averages unit vectors and normalises (CLIP's own ensemble); `raw-mean` averages raw
    vectors and keeps the norm, which sets the step size of methods that train text weights. A class
    with fewer prompts than T has rows of zeros in the place of the others, which no mean counts.
    """
    make: dict[str, Callable[[], Tensor]] = {
        "norm-mean": lambda: unit(unit(per_prompt).mean(1)),
        "raw-mean": lambda: _raw_mean(per_prompt),
        "per-prompt": lambda: per_prompt,
    }
    unknown = [name for name in names if name not in make]
    if unknown:
        raise InputError(
            f"text {', '.join(unknown)} is not in this feature set",
            where="the method's `text`",
            fix=f"one of {', '.join(make)}",
        )
    return {name: make[name]() for name in names}


def _raw_mean(per_prompt: Tensor) -> Tensor:
    """The mean [C, D] of each class's own prompts."""
    own = (per_prompt != 0).any(-1).sum(1, keepdim=True)  # [C, 1]
    return per_prompt.mean(1) * (per_prompt.shape[1] / own)


class Generators:
    """Random numbers for V variants: each variant's depend on its own seed and nothing else.

    So a variant starts the same alone, in any stack and at any place in it. Numbers are drawn on
    the CPU in float64 and then moved, so that devices and precisions agree too.
    """

    def __init__(
        self, seeds: Sequence[int], purpose: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._seeds = tuple(seeds)
        self._made = {seed: _generator(seed, purpose) for seed in dict.fromkeys(seeds)}
        self._device = device
        self._dtype = dtype

    def uniform(self, bound: float, shape: Sequence[int]) -> Tensor:
        """Uniform in (-bound, bound): [V, *shape]."""
        drawn = {
            seed: (torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1) * bound
            for seed, g in self._made.items()
        }
        stacked = torch.stack([drawn[seed] for seed in self._seeds])
        return stacked.to(self._device, self._dtype)

    def permutations(self, n: int) -> Tensor:
        """The next random order of n things: [V, n] int64."""
        drawn = {seed: torch.randperm(n, generator=g) for seed, g in self._made.items()}
        return torch.stack([drawn[seed] for seed in self._seeds]).to(self._device)


def _generator(seed: int, purpose: str) -> torch.Generator:
    state = hashlib.sha256(f"{seed}\n{purpose}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(state, "big") >> 1)
