"""The key/value cache: support features are keys, their labels are values."""

from torch import Tensor


def cache_votes(x: Tensor, keys: Tensor, labels: Tensor, beta: Tensor, n_classes: int) -> Tensor:
    """Each class's sum of exp(-beta (1 - x k)) over its keys (2111.03930, equation 4).

    On unit rows that is exp(-beta |x - k|^2 / 2): a vote with a Gaussian kernel.

    Args:
        x: [n, D] or [V, n, D] unit rows.
        keys: [V, M, D] unit rows.
        labels: [V, M] int64, the class of each key.
        beta: [V], the sharpness.
        n_classes: C.

    Returns:
        [V, n, C], each entry in (0, keys of that class].
    """
    affinity = x @ keys.transpose(1, 2)  # [V, n, M]
    affinity = affinity.sub_(1).mul_(beta[:, None, None]).exp_()
    votes = affinity.new_zeros(*affinity.shape[:2], n_classes)  # [V, n, C]
    index = labels[:, None, :].expand(affinity.shape)
    return votes.scatter_add_(2, index, affinity)
