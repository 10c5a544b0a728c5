"""Multinomial logistic regression with an L2 penalty, many problems at once, by L-BFGS."""

from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 10  # pairs of steps and gradient differences kept
MAX_STEPS = 2000
TOLERANCE = 1e-7  # on the largest entry of the gradient of the mean objective
ARMIJO = 1e-4
MAX_HALVINGS = 30


def logistic_regression(
    x: Tensor, labels: Tensor, C: Tensor, n_classes: int
) -> tuple[Tensor, Tensor]:
    """The minimum over (W, b) of C sum_i CE(W x_i + b, y_i) + |W|^2 / 2, scikit-learn's objective.

    The intercept carries no penalty. The work is done in float64 on the mean objective, that
    divided by C N, until its gradient is below `TOLERANCE` or no step lowers it any more.

    Args:
        x: [V, N, D].
        labels: [V, N] int64.
        C: [V], the inverse of the penalty's weight.
        n_classes: K.

    Returns:
        W [V, K, D] and b [V, K] in the dtype of x.
    """
    V, N, D = x.shape
    x64 = torch.cat([x.double(), x.new_ones(V, N, 1, dtype=torch.float64)], 2)  # [V, N, D+1]
    decay = x64.new_zeros(V, 1, D + 1)
    decay[:, 0, :D] = (1 / (C.double() * N))[:, None]

    def objective(w: Tensor) -> tuple[Tensor, Tensor]:
        """Value [V] and gradient [V, K (D+1)] at w."""
        W = w.view(V, n_classes, D + 1)
        log_p = (x64 @ W.transpose(1, 2)).log_softmax(-1)  # [V, N, K]
        value = -log_p.gather(-1, labels.unsqueeze(-1)).mean((1, 2))
        value = value + 0.5 * (decay * W * W).sum((1, 2))
        residual = log_p.exp_()
        residual.scatter_add_(-1, labels.unsqueeze(-1), -torch.ones_like(residual[..., :1]))
        gradient = residual.transpose(1, 2) @ x64 / N + decay * W
        return value, gradient.flatten(1)

    w = _minimise(objective, x64.new_zeros(V, n_classes * (D + 1)))
    W = w.view(V, n_classes, D + 1).to(x.dtype)
    return W[..., :D], W[..., D]


def _minimise(objective: Callable[[Tensor], tuple[Tensor, Tensor]], w: Tensor) -> Tensor:
    """L-BFGS with Armijo backtracking, every row of w [V, P] a convex problem of its own."""
    value, gradient = objective(w)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    for _ in range(MAX_STEPS):
        moving = gradient.abs().amax(1) > TOLERANCE
        if not moving.any():
            break
        direction = _direction(gradient, steps, changes)
        slope = (direction * gradient).sum(1)
        size = moving.double()  # a problem that has converged takes steps of 0
        for _ in range(MAX_HALVINGS):
            trial = w + size[:, None] * direction
            trial_value, trial_gradient = objective(trial)
            failed = trial_value > value + ARMIJO * size * slope
            if not failed.any():
                break
            size = torch.where(failed, size / 2, size)
        else:
            size = torch.where(failed, 0.0, size)
            trial = w + size[:, None] * direction
            trial_value, trial_gradient = objective(trial)
        if not size.any():
            break
        steps = [*steps, trial - w][-MEMORY:]
        changes = [*changes, trial_gradient - gradient][-MEMORY:]
        w, value, gradient = trial, trial_value, trial_gradient
    return w


def _direction(gradient: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """The two-loop recursion (Nocedal 1980), row by row; pairs without curvature do not count."""
    if not steps:
        length: Tensor = gradient.norm(dim=1, keepdim=True)
        return -gradient / length.clamp_min(1.0)
    q = gradient.clone()
    pairs = []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        sy = (s * y).sum(1, keepdim=True)
        rho = torch.where(sy > 1e-30, 1 / sy, 0.0)
        a = rho * (s * q).sum(1, keepdim=True)
        q -= a * y
        pairs.append((s, y, rho, a))
    s, y = steps[-1], changes[-1]
    yy = (y * y).sum(1, keepdim=True)
    q *= torch.where(yy > 1e-30, (s * y).sum(1, keepdim=True) / yy, 1.0)
    for s, y, rho, a in reversed(pairs):
        q += (a - rho * (y * q).sum(1, keepdim=True)) * s
    return -q
