"""The cosine classifier: scaled cosines between pictures and one weight row a class."""

from torch import Tensor

from cacheclip.task import Query


def cosine_logits(query: Query, weight: Tensor, logit_scale: Tensor) -> Tensor:
    """Logits s x w_c for unit rows x and w_c.

    Args:
        query: `image` [n, D] or [V, n, D], unit rows.
        weight: [V, C, D], unit rows.
        logit_scale: [V].

    Returns:
        [V, n, C].
    """
    cosine: Tensor = query["image"] @ weight.transpose(1, 2)
    return cosine * logit_scale[:, None, None]


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log softmax of the labels; logits [V, B, C], labels [V, B] -> [V]."""
    log_p = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1))  # [V, B, 1]
    return -log_p.mean((1, 2))
