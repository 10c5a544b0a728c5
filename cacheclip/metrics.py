"""What is measured on logits."""

import torch
from torch import Tensor


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many rows have their largest logit at the label; ties go to the lowest class.

    Args:
        logits: [V, n, C].
        labels: [n] shared by all variants, or [V, n].

    Returns:
        [V] int64.
    """
    return (logits.argmax(-1) == labels).sum(-1)


def true_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """The log of the softmax probability of each row's label; logits [V, n, C] -> [V, n]."""
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)  # [V, n, 1]
    return torch.log_softmax(logits.float(), -1).gather(-1, index).squeeze(-1)
