"""What SILC (arXiv 2310.13355) adds to CLIP's loss, as functions of tensors.

The self-distillation, the teacher's and the centre's average, and the sigmoid form of the
image-text loss (SILC-S).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def sigmoid_pairs(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Gives the image-text loss of SILC-S: each pair of the batch judged by itself.

    Args:
        images: [n, d] unit rows.
        texts: [n, d] unit rows, of the same pairs.
        scale: Factor on the cosines.
        bias: Added to the scaled cosines.
    """
    logits = scale * images @ texts.T + bias  # [n, n]
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    return -functional.logsigmoid(signs * logits).sum() / len(logits)


def target(teacher: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Gives what the student should say: the teacher's centred, sharpened prototypes.

    Args:
        teacher: [..., K] outputs.
        centre: [K], taken off them.
        temperature: Of the softmax.

    Returns:
        [..., K] shares without a gradient.
    """
    return ((teacher - centre) / temperature).softmax(dim=-1).detach()


def distillation(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Gives the cross-entropy of local views on global ones, mean over all pairs of views.

    Args:
        student: [L, n, K] outputs on local views.
        targets: [G, n, K] from `target`, on global views of the same pictures.
        temperature: Of the student.
    """
    said = (student / temperature).log_softmax(dim=-1)
    # Linear in target and in log share: the mean over pairs is the product of the means.
    return -(targets.mean(dim=0) * said.mean(dim=0)).sum(dim=-1).mean()


@torch.no_grad()
def moved(average: Tensor, now: Tensor, momentum: float) -> Tensor:
    """Gives an exponential average after a step: of the centre, or of a weight of the teacher.

    Args:
        average: Before the step.
        now: What it follows, of the same shape.
        momentum: Share of the average that is kept: 1 never moves, 0 copies.
    """
    return momentum * average + (1 - momentum) * now
