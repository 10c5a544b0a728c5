"""The key/value cache: support features are keys that vote for their labels.

A picture x gets from class c the sum of v_k exp(-beta (1 - x k)) over the keys k of c. On unit rows
that is v_k exp(-beta |x - k|^2 / 2): a vote with a Gaussian kernel. `heads/cache_search.py` finds
alpha and beta; `kernels/cache_affinity.py` adds up the votes on a GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.heads.classes import class_votes
from cacheclip.heads.cosine import cosine_logits
from cacheclip.kernels.cache_affinity import cache_affinity
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.task import Query, Task


@dataclass(frozen=True)
class Cache:
    """Keys with their classes: those of V variants, or of one without the leading axis.

    Attributes:
        keys: [V, M, D] in whichever channels the votes look at; unit rows until they are trained.
        labels: [V, M] int64, the class of each key.
        values: [V, M] > 0, how much each key's vote counts; None where that is 1.
    """

    keys: Tensor
    labels: Tensor
    values: Tensor | None = None

    @classmethod
    def of(cls, params: dict[str, Tensor]) -> "Cache":
        """The cache among a head's params."""
        return cls(params["keys"], params["labels"], params.get("values"))

    def variant(self, v: int) -> "Cache":
        """The cache of one of V variants, without the leading axis."""
        values = None if self.values is None else self.values[v]
        return Cache(self.keys[v], self.labels[v], values)


def cache_of(task: Task) -> dict[str, Tensor]:
    """The params of Tip-Adapter: the support set as a cache beside zero-shot."""
    text = task.class_text("norm-mean")
    return {
        "weight": text,
        "logit_scale": text.new_full((len(text),), task.logit_scale),
        "keys": task.mean_of_views(),
        "labels": task.labels,
        "alpha": task.settings["alpha"],
        "beta": task.settings["beta"],
    }


def zero_shot_of(params: dict[str, Tensor], query: Query) -> Tensor:
    """What the votes are added to, [V, n, C]: zero-shot, with the head's bias where it has one."""
    return cosine_logits(query, params["weight"], params["logit_scale"], params.get("bias"))


def cache_logits(x: Tensor, cache: Cache, zero_shot: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Zero-shot + alpha exp(-beta (1 - x K^T)) Y, [V, n, C] (2111.03930, equations 4 and 5).

    Args:
        x: [n, D] or [V, n, D] unit rows, in the channels of the keys.
        cache: of V variants; row k of Y is its value at its label.
        zero_shot: [V, n, C] logits, from whichever channels.
        alpha: [V], what a vote weighs.
        beta: [V], the sharpness.
    """
    votes = cache_votes(x, cache, beta, zero_shot.shape[-1])
    return zero_shot + alpha[:, None, None] * votes


def cache_votes(x: Tensor, cache: Cache, beta: Tensor, n_classes: int) -> Tensor:
    """Each class's sum of v exp(-beta (1 - x k)) over its keys, as `cache_logits` adds it.

    Returns:
        [V, n, C], each entry for unit keys in (0, sum of that class's values].
    """
    if x.is_cuda and cache.values is None:
        return fused_votes(x, cache, beta, n_classes)
    return class_sums(_weights(x, cache, beta), cache, n_classes)


def fused_votes(x: Tensor, cache: Cache, beta: Tensor, n_classes: int) -> Tensor:
    """`cache_votes` for keys that count 1: no weight of a single key reaches memory.

    Keys are brought in the order of their classes, so that a class's votes are added up in one
    place and in one order, where scattered sums come in any order on a GPU.
    """
    votes = []
    for v, (keys, labels) in enumerate(zip(cache.keys, cache.labels, strict=True)):
        ends = labels.bincount(minlength=n_classes).cumsum(0)
        offsets = functional.pad(ends, (1, 0))  # [C + 1]
        by_class = keys[labels.argsort(stable=True)]
        own = x[v] if x.ndim > 2 else x
        votes.append(cache_affinity(own, by_class, offsets, beta[v : v + 1])[0])
    return torch.cat(votes)


def cache_grad(
    x: Tensor,
    cache: Cache,
    zero_shot: Tensor,
    alpha: Tensor,
    beta: Tensor,
    labels: Tensor,
    picture_weights: Tensor | None = None,
) -> Outer:
    """The gradient of the mean cross-entropy of `cache_logits`, summed over V, in the keys.

    The factors are S [V, B, M] and x, where S_ik = alpha beta v_k exp(-beta (1 - x_i k)) (p - Y)_i,
    the last taken at the class of key k.

    Args:
        x: [V, B, D].
        cache: of V variants.
        zero_shot: [V, B, C] logits.
        alpha: [V].
        beta: [V].
        labels: [V, B] int64, of the pictures.
        picture_weights: [V, B], what each picture counts in the mean.
    """
    weights = _weights(x, cache, beta)  # [V, B, M]
    votes = class_sums(weights, cache, zero_shot.shape[-1])
    residual = zero_shot.addcmul(votes, alpha[:, None, None]).softmax(-1)
    residual.scatter_add_(-1, labels.unsqueeze(-1), -torch.ones_like(residual[..., :1]))
    residual.mul_((alpha * beta / x.shape[1])[:, None, None])
    if picture_weights is not None:
        residual.mul_(picture_weights[..., None])
    if cache.values is not None:
        weights.mul_(cache.values[:, None])
    return Outer(weights.mul_(residual.gather(-1, _class_of_weights(cache, weights))), x)


def class_sums(weights: Tensor, cache: Cache, n_classes: int) -> Tensor:
    """Weights [V, n, M] of single keys, times their values, added up by class: [V, n, C]."""
    if cache.values is not None:
        weights = weights * cache.values.unsqueeze(-2)
    return class_votes(weights, cache.labels, n_classes)


def _weights(x: Tensor, cache: Cache, beta: Tensor) -> Tensor:
    """exp(-beta (1 - x k)) for every key: [V, n, M]."""
    return (x @ cache.keys.mT).sub_(1).mul_(beta[:, None, None]).exp_()


def _class_of_weights(cache: Cache, weights: Tensor) -> Tensor:
    """The class of the key of every weight, in the weights' shape."""
    return cache.labels.unsqueeze(-2).expand(weights.shape)
