"""Kernel ridge regression: one eigendecomposition serves every weight of the ridge.

With K the kernel of N rows with themselves, R what is left to explain of them and lambda > 0,

    a = (K / lambda + I)^-1 R        f(x) = K(x, rows) a

is lambda times the function that makes sum_i |r_i - f(x_i)|^2 + lambda |f|^2 least.
"""

import torch
from torch import Tensor

from cacheclip.task import Task


def beside_text(task: Task) -> dict[str, Tensor]:
    """Params of a kernel beside zero-shot: the rows that it is made of, every view of them one."""
    text, views = task.class_text("norm-mean"), task.flat()
    return {
        "weight": text,
        "logit_scale": text.new_full((len(text),), task.logit_scale),
        "keys": views.support()["image"],
        "labels": views.labels,
    }


def left_to_explain(x: Tensor, text: Tensor, labels: Tensor) -> Tensor:
    """One-hot labels [V, N] without the cosines of rows x [V, N, D] and class text: [V, N, C]."""
    left = -(x @ text.mT)
    return left.scatter_add_(-1, labels.unsqueeze(-1), torch.ones_like(left[..., :1]))


def rbf(x: Tensor, rows: Tensor, beta: Tensor) -> Tensor:
    """exp(-beta (1 - x r)) of unit rows x [.., n, D] and r [V, N, D]: [V, n, N]; beta [V]."""
    return (x @ rows.mT).sub_(1).mul_(beta.to(x)[:, None, None]).exp_()


class Ridge:
    """The dual of one kernel, for any lambda. Float64 inside: its condition is 1 + N / lambda."""

    def __init__(self, kernel: Tensor, targets: Tensor) -> None:
        """Decompose.

        Args:
            kernel: K [V, N, N], symmetric and positive semidefinite.
            targets: R [V, N, C].
        """
        self._dtype = targets.dtype
        values, self._vectors = torch.linalg.eigh(kernel.double())
        self._values = values.clamp_min(0)  # rounding alone makes one negative
        self._rotated = self._vectors.mT @ targets.double()
        self._targets = targets.double()

    def dual(self, lam: Tensor) -> Tensor:
        """The weights a [V, N, C] for lambda [V]; 0 stands for its limit, no weight at all."""
        weights: Tensor = self._vectors @ (self._shrunk(lam).unsqueeze(-1) * self._rotated)
        return weights.to(self._dtype)

    def left_out(self, lam: Tensor) -> Tensor:
        """What f is at each row [V, N, C] as the others alone give it, without a fit for each.

        It is lambda (r_i - a_i / ((K / lambda + I)^-1)_ii), for lambda [V] above 0.
        """
        shrunk = self._shrunk(lam)
        diagonal = torch.einsum("vnk,vk->vn", self._vectors.square(), shrunk)
        a = self._vectors @ (shrunk.unsqueeze(-1) * self._rotated)
        own: Tensor = self._targets - a / diagonal.unsqueeze(-1)
        return (lam.double()[:, None, None] * own).to(self._dtype)

    def evidence(self, lam: Tensor) -> Tensor:
        """The log marginal likelihood of R [V], up to what no lambda and no kernel changes.

        Each column of R is a Gaussian process of kernel v K and noise v lambda; the variance v is
        the likeliest, tr(R^T (K + lambda I)^-1 R) / (N C), for lambda [V] above 0.
        """
        N, C = self._targets.shape[1:]
        total = self._values + lam.double()[:, None]  # [V, N]
        fit = (self._rotated.square().sum(-1) / total).sum(-1) / (N * C)
        tiny = torch.finfo(torch.float64).tiny
        likely: Tensor = -(N * C * fit.clamp_min(tiny).log() + C * total.log().sum(-1)) / 2
        return likely

    def _shrunk(self, lam: Tensor) -> Tensor:
        """Eigenvalues of (K / lambda + I)^-1, [V, N]."""
        lam = lam.double()[:, None]
        shrunk: Tensor = lam / (self._values + lam).clamp_min(torch.finfo(torch.float64).tiny)
        return shrunk
