"""One few-shot problem for V variants at once, as tensors on the device. It holds no test labels.

Features stay one shared matrix a layer (the pool); a variant differs only in which rows it reads,
in its settings, and in its seed. That is what lets a thousand runs share one copy.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cacheclip.errors import InputError
from cacheclip.kernels.launch import Workspace


@dataclass(frozen=True)
class Unread:
    """Rows of a layer that are read when they are asked for: all of them are too many to hold.

    Attributes:
        read: rows [k] of where they lie -> [k, *inner].
        rows: [n], which they are.
        inner: the shape of one.
    """

    read: Callable[[Tensor], Tensor]
    rows: Tensor
    inner: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the tensor that they would be: [n, *inner]."""
        return len(self.rows), *self.inner

    @property
    def ndim(self) -> int:
        """Its axes."""
        return len(self.shape)

    def narrow(self, axis: int, first: int, n: int) -> "Unread":
        """Those from `first` on, still unread; pictures are axis 0."""
        return replace(self, rows=self.rows.narrow(axis, first, n))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Those at positions [...]: [..., *inner]."""
        return self.read(self.rows[index.cpu().flatten()]).view(*index.shape, *self.inner)

    def whole(self) -> Tensor:
        """All of them."""
        return self.read(self.rows)


@dataclass(frozen=True)
class Query:
    """The layers of some pictures, just those that a method `reads`.

    A layer is [n, ...] when all variants look at the same pictures and [V, n, ...] when each looks
    at its own. Layers: `image` [., D] unit rows; `image-norm` [., 1] the norms taken off them;
    `aux:image` [., D'] unit rows of a second encoder, and `aux:image-norm`; `image/views` [., W, D]
    unit rows of W views, the picture first; `pre-projection` [., E] raw; `patches` [., P, D] raw.
    `encoder` holds frozen parts of the encoder, as `Task` does.

    Of more pictures than memory has room for a layer is `Unread`: a part of the query reads its own
    rows once it is asked for the layer.
    """

    layers: Mapping[str, Tensor | Unread]
    encoder: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self.layers:
            have = ", ".join(self.layers) or "none"
            raise KeyError(f"layer {layer!r} is not among what this method reads (it has: {have})")
        x = self.layers[layer]
        return x.whole() if isinstance(x, Unread) else x

    def __len__(self) -> int:
        """Pictures of one variant (of all variants, where they share them)."""
        layer = next(iter(self.layers))
        return self.layers[layer].shape[_row_axis(layer, self.layers[layer])]

    def part(self, first: int, last: int) -> "Query":
        """The pictures first..last-1 of every variant."""
        layers = {
            name: x.narrow(_row_axis(name, x), first, last - first)
            for name, x in self.layers.items()
        }
        return Query(layers, self.encoder)

    def variants(self, first: int, last: int) -> "Query":
        """What the variants first..last-1 look at."""
        layers = {
            name: x[first:last] if isinstance(x, Tensor) and _row_axis(name, x) else x
            for name, x in self.layers.items()
        }
        return Query(layers, self.encoder)

    def beside(self, other: "Query") -> "Query":
        """These pictures and then others of the same layers; both are shared by all variants."""
        layers = {name: torch.cat([self[name], other[name]]) for name in self.layers}
        return Query(layers, self.encoder)

    def at(self, index: Tensor) -> "Query":
        """The pictures at positions `index` [V, B] of each variant: layers [V, B, ...]."""
        variant = torch.arange(len(index), device=index.device)[:, None]
        layers = {
            name: x[variant, index] if isinstance(x, Tensor) and _row_axis(name, x) else x[index]
            for name, x in self.layers.items()
        }
        return Query(layers, self.encoder)


def _row_axis(layer: str, x: Tensor | Unread) -> int:
    inner = 2 if layer in ("image/views", "patches") else 1
    return x.ndim - inner - 1


@dataclass(frozen=True)
class Batch:
    """What one step sees: rows [V, B] of the task's pool, and their labels [V, B].

    Attributes:
        task: whose settings, text and frozen encoder the step reads.
        rows: [V, B] rows of the pool, each a view of a picture.
        labels: [V, B].
        work: memory by name that the steps of one run share; see `kernels.launch.Workspace`.
        random: what a step draws beside the order of the data, from each variant's own seed.
        weights: [V, B], what each picture counts in the loss; None where that is 1.
        step: how many came before it.
    """

    task: "Task"
    rows: Tensor
    labels: Tensor
    work: Mapping[str, Workspace]
    random: "Generators"
    weights: Tensor | None = None
    step: int = 0

    @property
    def pool(self) -> Mapping[str, Tensor]:
        """Layer -> [R, ...], what `rows` counts."""
        return self.task.pool

    @cached_property
    def query(self) -> Query:
        """The pictures, layers [V, B, ...]: a copy that a fused kernel does without."""
        return Query({name: x[self.rows] for name, x in self.pool.items()}, self.task.encoder)


@dataclass(frozen=True)
class Task:
    """The support sets of V variants of one method on one data set.

    The views of a picture are neighbours in the pool: view w of picture r is row r W + w.

    Attributes:
        pool: layer -> [R W, ...], the views of the R pictures that any variant reads.
        rows: [V, N] int64, each variant's support as pictures 0..R-1.
        labels: [V, N] int64.
        text: `norm-mean` or `raw-mean` [C, D], `per-prompt` [C, T, D] raw, as declared; of the
            templates, of sentences as `cupl:norm-mean`, or of both as `all:norm-mean`.
        settings: the method's vector settings, each [V].
        logit_scale: the encoder's exp(logit_scale).
        n_classes: C.
        weights: [V, N], what each support picture counts in a loss; None where that is 1.
        views: W.
        encoder: frozen parts of the encoder that know no class, as declared: `projection` [E, D],
            `projection-bias` [D], `text-projection`, `tower`.
    """

    pool: Mapping[str, Tensor]
    rows: Tensor
    labels: Tensor
    text: Mapping[str, Tensor]
    settings: Mapping[str, Tensor]
    logit_scale: float
    n_classes: int
    weights: Tensor | None = None
    views: int = 1
    encoder: Mapping[str, Any] = field(default_factory=dict)

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
        features = (*self.pool.values(), *self.text.values())
        return next(x.dtype for x in features if x.is_floating_point())

    def support(self, view: int = 0) -> Query:
        """One view of every variant's support set, layers [V, N, ...]."""
        rows = self._rows_of(self.rows, view)
        return Query({name: x[rows] for name, x in self.pool.items()}, self.encoder)

    def mean_of_views(self) -> Tensor:
        """Unit rows [V, N, D] along the mean of each support picture's raw views."""
        if self.views == 1:
            return self.support()["image"]
        views = [self.support(view) for view in range(self.views)]
        return unit(torch.stack([x["image"] * x["image-norm"] for x in views]).mean(0))

    def flat(self) -> "Task":
        """Every view as a picture of its own, those of a picture side by side: N W pictures."""
        if self.views == 1:
            return self
        views = torch.arange(self.views, device=self.device)
        weights = self.weights
        return replace(
            self,
            rows=(self.rows[..., None] * self.views + views).flatten(1),
            labels=self.labels.repeat_interleave(self.views, 1),
            weights=None if weights is None else weights.repeat_interleave(self.views, 1),
            views=1,
        )

    def class_text(self, ensemble: str) -> Tensor:
        """Text of the classes as every variant sees it: [V, C, D], one copy behind all."""
        text = self.text[ensemble]
        return text.expand(self.variants, *text.shape)

    def at(
        self,
        index: Tensor,
        work: Mapping[str, Workspace],
        random: "Generators",
        *,
        step: int = 0,
        epoch: int = 0,
    ) -> Batch:
        """The support pictures at positions `index` [V, B]: another view of them in each epoch."""
        return Batch(
            self,
            self._rows_of(self.rows.gather(1, index), epoch % self.views),
            self.labels.gather(1, index),
            work,
            random,
            None if self.weights is None else self.weights.gather(1, index),
            step,
        )

    def part(self, which: slice | Tensor) -> "Task":
        """Some of the variants, by a slice or by their numbers."""
        return replace(
            self,
            rows=self.rows[which],
            labels=self.labels[which],
            settings={name: x[which] for name, x in self.settings.items()},
            weights=None if self.weights is None else self.weights[which],
        )

    def _rows_of(self, pictures: Tensor, view: int) -> Tensor:
        """The rows of the pool that hold a view of these pictures."""
        return pictures if self.views == 1 else pictures * self.views + view


def unit(x: Tensor) -> Tensor:
    """Rows of x divided by their L2 norm."""
    norm: Tensor = x.norm(dim=-1, keepdim=True)
    return x / norm.clamp_min(1e-12)


def image_layers(x: Tensor) -> dict[str, Tensor]:
    """The layers that raw features [n, D] are: unit rows, and the norms taken off them."""
    return {"image": unit(x), "image-norm": x.norm(dim=-1, keepdim=True)}


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
        shape = tuple(shape)
        drawn = self._each(lambda g: torch.rand(shape, generator=g, dtype=torch.float64))
        return ((drawn * 2 - 1) * bound).to(self._dtype)

    def normal(self, std: float, shape: Sequence[int]) -> Tensor:
        """Normal around 0: [V, *shape]."""
        shape = tuple(shape)
        drawn = self._each(lambda g: torch.randn(shape, generator=g, dtype=torch.float64))
        return (drawn * std).to(self._dtype)

    def batches(self, n: int, size: int) -> Iterator[Tensor]:
        """Positions [V, size] among n things for ever, in a new order when no full batch is left.

        Of fewer than `size` things all of them are a batch.
        """
        size = min(n, size)
        while True:
            shuffled = self.permutations(n)
            for first in range(0, n - size + 1, size):
                yield shuffled[:, first : first + size]

    def permutations(self, n: int) -> Tensor:
        """The next random order of n things: [V, n] int64."""
        return self._each(lambda g: torch.randperm(n, generator=g))

    def _each(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """What each variant draws, variants of one seed the same: [V, ...]."""
        drawn = {seed: draw(g) for seed, g in self._made.items()}
        return torch.stack([drawn[seed] for seed in self._seeds]).to(self._device)


def _generator(seed: int, purpose: str) -> torch.Generator:
    state = hashlib.sha256(f"{seed}\n{purpose}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(state, "big") >> 1)
