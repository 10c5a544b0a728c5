"""Kernel logistic regression of what is left to learn beside logits that are given.

With K the kernel of N rows with themselves, Z their given logits and b > 0, the weights a [N, C]
make

    sum_i CE(Z_i + K_i a, y_i) + tr(a^T K a) / (2 b)

least. It is convex. In the eigenvectors of K the Hessian is at most w_j / 2 + 1 / b for the
eigenvalue w_j, whatever the labels (Boehning 1992): each step divides the gradient by that bound,
so that there is no rate to choose, and Nesterov's momentum carries it on. There are `STEPS` of
them: at b = 100 they end at the minimum for what a temperature tells, at 1,000 and beyond they stop
early, which holds the function back as a smaller b would. Of more rows than `MOST` an even choice
of landmarks spans the function (Nystroem), which all rows still fit.
"""

import torch
from torch import Tensor

from cacheclip.heads.ridge import rbf

MOST = 1024  # landmarks: twice the width of most features, and a second to decompose
STEPS = 100
LEAST = 1e-10  # of the largest eigenvalue: below it there is rounding alone


def landmarks(x: Tensor) -> Tensor:
    """The rows [V, M, D] of x [V, N, D] that span the function: all, or an even choice."""
    return x[:, :: -(-x.shape[1] // MOST)]


class KernelLogistic:
    """One kernel, for any b. Float64 where it decomposes, the rows' own type where it steps."""

    def __init__(self, x: Tensor, given: Tensor, labels: Tensor, beta: Tensor) -> None:
        """Decompose.

        Args:
            x: [V, N, D] unit rows.
            given: Z [V, N, C].
            labels: [V, N] int64.
            beta: [V], of the kernel exp(-beta (1 - u v)).
        """
        spanning = landmarks(x)  # [V, M, D]
        values, vectors = torch.linalg.eigh(rbf(spanning, spanning, beta).double())
        values = values.clamp_min(LEAST * values[:, -1:])
        back = vectors / values.sqrt().unsqueeze(-2)  # [V, M, M]
        rows = rbf(x, spanning, beta).double() @ back  # [V, N, M], K = rows rows^T
        if spanning.shape[1] < x.shape[1]:
            values, turn = torch.linalg.eigh(rows.mT @ rows)
            rows, back = rows @ turn, back @ turn
        self._rows, self._back = rows.to(given.dtype), back.to(given.dtype)
        self._bound = values.clamp_min(0).to(given.dtype).unsqueeze(-1) / 2  # [V, M, 1]
        self._given = given
        self._wanted = torch.zeros_like(given).scatter_(-1, labels.unsqueeze(-1), 1.0)

    def dual(self, b: Tensor) -> Tensor:
        """The weights a [V, M, C] of the landmarks for b [V]; 0 stands for its limit, no weight."""
        b = b.to(self._given)[:, None, None]
        if not b.any():
            return self._given.new_zeros(*self._rows.mT.shape[:2], self._given.shape[-1])
        curvature = b * self._bound + 1  # times 1 / b
        weights = before = self._given.new_zeros(*self._rows.mT.shape[:2], self._given.shape[-1])
        momentum = 1.0
        for _ in range(STEPS):
            after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = weights + (momentum - 1) / after * (weights - before)
            p = (self._given + self._rows @ ahead).softmax(-1)
            slope = b * (self._rows.mT @ (p - self._wanted)) + ahead
            weights, before, momentum = ahead - slope / curvature, weights, after
        answer: Tensor = self._back @ weights
        return answer
