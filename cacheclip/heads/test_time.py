"""What is learned for one picture and forgotten: entropies, and steps that each picture takes."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor

DECAY = 0.01  # of AdamW, as torch has it
MOMENTS, EPS = (0.9, 0.999), 1e-8


def entropy(logits: Tensor) -> Tensor:
    """The entropy in nats of the mean prediction of W views: logits [..., W, C] -> [...]."""
    log_p = logits.log_softmax(-1).logsumexp(-2) - log(logits.shape[-2])  # [..., C]
    return -(log_p.exp() * log_p).sum(-1)


class Own:
    """Numbers [P, ...] of P pictures, which move by AdamW, those of each by its own loss.

    Attributes:
        value: where they are; no gradient goes back from here.
    """

    def __init__(self, start: Tensor, lr: Tensor) -> None:
        """Begin at `start` [P, ...], with the rates `lr` [P]."""
        self.value = start
        self._lr = lr.view(-1, *[1] * (start.ndim - 1))
        self._first, self._second = torch.zeros_like(start), torch.zeros_like(start)
        self._steps = 0

    def step(self, loss: Callable[[Tensor], Tensor]) -> None:
        """Go a step down `loss`, which gives [P] of the numbers; also where no gradient is kept."""
        with torch.enable_grad():
            x = self.value.detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(x).sum(), x)
        self._steps += 1
        keep, keep_square = MOMENTS
        self._first = keep * self._first + (1 - keep) * slope
        self._second = keep_square * self._second + (1 - keep_square) * slope.square()
        mean = self._first / (1 - keep**self._steps)
        size = (self._second / (1 - keep_square**self._steps)).sqrt()
        self.value = (1 - DECAY * self._lr) * self.value - self._lr * mean / (size + EPS)
