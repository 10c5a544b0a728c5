"""The key/value cache: support features are keys, their labels are values."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.task import Query, Task


def cache_of(task: Task) -> dict[str, Tensor]:
    """The support set as a cache beside zero-shot: all that `cache_logits` reads."""
    text = task.class_text("norm-mean")
    return {
        "weight": text,
        "logit_scale": text.new_full((len(text),), task.logit_scale),
        "keys": task.mean_of_views(),
        "labels": task.labels,
        "alpha": task.settings["alpha"],
        "beta": task.settings["beta"],
    }


def cache_logits(params: dict[str, Tensor], query: Query) -> Tensor:
    """[V, n, C]: s x T^T + alpha exp(-beta (1 - x K^T)) Y (2111.03930, equations 4 and 5)."""
    zero_shot = beside_votes(params, query)
    votes = cache_votes(
        query["image"], params["keys"], params["labels"], params["beta"], zero_shot.shape[-1]
    )
    return zero_shot + params["alpha"][:, None, None] * votes


def beside_votes(params: dict[str, Tensor], query: Query) -> Tensor:
    """What the votes are added to, [V, n, C]: zero-shot, with the head's bias where it has one."""
    return cosine_logits(query, params["weight"], params["logit_scale"], params.get("bias"))


def cache_votes(x: Tensor, keys: Tensor, labels: Tensor, beta: Tensor, n_classes: int) -> Tensor:
    """Each class's sum of exp(-beta (1 - x k)) over its keys (2111.03930, equation 4).

    On unit rows that is exp(-beta |x - k|^2 / 2): a vote with a Gaussian kernel.

    Args:
        x: [n, D] or [V, n, D] unit rows.
        keys: [V, M, D], unit rows until they are trained.
        labels: [V, M] int64, the class of each key.
        beta: [V], the sharpness.
        n_classes: C.

    Returns:
        [V, n, C], each entry for unit keys in (0, keys of that class].
    """
    return _class_sums(_weights(x, keys, beta), labels, n_classes)


def cache_grad(
    params: dict[str, Tensor], x: Tensor, labels: Tensor, picture_weights: Tensor | None = None
) -> Outer:
    """The gradient of the mean cross-entropy of `cache_logits`, summed over V, in the keys.

    The factors are S [V, B, M] and x, where S_ik = alpha beta exp(-beta (1 - x_i k)) (p - Y)_i,
    the last taken at the class of key k.

    Args:
        params: as `cache_logits` reads them.
        x: [V, B, D].
        labels: [V, B] int64.
        picture_weights: [V, B], what each picture counts in the mean.
    """
    alpha, beta = params["alpha"], params["beta"]
    logits = cosine_logits(Query({"image": x}), params["weight"], params["logit_scale"])
    weights = _weights(x, params["keys"], beta)  # [V, B, M]
    votes = _class_sums(weights, params["labels"], logits.shape[-1])
    residual = logits.addcmul_(votes, alpha[:, None, None]).softmax(-1)
    residual.scatter_add_(-1, labels.unsqueeze(-1), -torch.ones_like(residual[..., :1]))
    residual.mul_((alpha * beta / x.shape[1])[:, None, None])
    if picture_weights is not None:
        residual.mul_(picture_weights[..., None])
    return Outer(weights.mul_(residual.gather(-1, _of_keys(params["labels"], weights))), x)


def _weights(x: Tensor, keys: Tensor, beta: Tensor) -> Tensor:
    """exp(-beta (1 - x k)) for every key: [V, n, M]."""
    return (x @ keys.transpose(1, 2)).sub_(1).mul_(beta[:, None, None]).exp_()


def _class_sums(weights: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Weights [V, n, M] added up by the class of their key: [V, n, C]."""
    sums = weights.new_zeros(*weights.shape[:2], n_classes)
    return sums.scatter_add_(2, _of_keys(labels, weights), weights)


def _of_keys(labels: Tensor, weights: Tensor) -> Tensor:
    """The keys' labels [V, M] for every row of their weights [V, n, M]."""
    return labels[:, None, :].expand(weights.shape)
