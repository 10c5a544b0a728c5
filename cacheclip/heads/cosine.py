"""The cosine classifier: scaled cosines between pictures and one weight row a class."""

from torch import Tensor

from cacheclip.task import Query


def cosine_logits(
    query: Query, weight: Tensor, logit_scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Logits s x w_c + b_c for unit rows x and w_c.

    Args:
        query: `image` [n, D] or [V, n, D], unit rows.
        weight: [V, C, D], unit rows.
        logit_scale: [V].
        bias: [V, C], where the head has one.

    Returns:
        [V, n, C].
    """
    cosine: Tensor = query["image"] @ weight.transpose(1, 2)
    logits = cosine * logit_scale[:, None, None]
    return logits if bias is None else logits + bias[:, None]


def mean_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean negative log softmax of the labels; logits [V, B, C], labels [V, B] -> [V].

    Under weights [V, B] a picture counts that many times; the mean is over B all the same, so its
    gradient is on average that of the whole support set.
    """
    log_p = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1))  # [V, B, 1]
    return -(log_p if weights is None else log_p * weights[..., None]).mean((1, 2))
