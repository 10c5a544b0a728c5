"""Multinomial logistic regression with an L2 penalty, many problems at once, by L-BFGS."""

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

MEMORY = 10  # pairs of steps and gradient differences kept
MAX_STEPS = 2000
TOLERANCE = 1e-7  # on the largest entry of the gradient of the mean objective
SETTLED = 1e-5  # as good as there where rounding ends the search before
ARMIJO = 1e-4
MAX_HALVINGS = 30


def logistic_regression(
    x: Tensor, labels: Tensor, C: Tensor, n_classes: int
) -> tuple[Tensor, Tensor]:
    """The minimum over (W, b) of C sum_i CE(W x_i + b, y_i) + |W|^2 / 2, scikit-learn's objective.

    The intercept carries no penalty. The work is done in float64 on the mean objective, that
    divided by C N, until its gradient is below `TOLERANCE` or no step lowers it any more. Problems
    that are done leave the stack, so that the others do not wait for them.

    Args:
        x: [V, N, D].
        labels: [V, N] int64.
        C: [V], the inverse of the penalty's weight.
        n_classes: K.

    Returns:
        W [V, K, D] and b [V, K] in the dtype of x; NaN where it did not converge.
    """
    V, N, D = x.shape
    problem = _Problem(
        x=torch.cat([x.double(), x.new_ones(V, N, 1, dtype=torch.float64)], 2),
        labels=labels.unsqueeze(-1),
        decay=(1 / (C.double() * N))[:, None, None],
    )
    W = _minimise(problem, x.new_zeros(V, n_classes, D + 1, dtype=torch.float64)).to(x.dtype)
    return W[..., :D], W[..., D]


@dataclass(frozen=True)
class _Problem:
    """V problems: x [V, N, D+1] with a column of ones, labels [V, N, 1], decay [V, 1, 1]."""

    x: Tensor
    labels: Tensor
    decay: Tensor

    def at(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Value [V] and gradient [V, K, D+1] at W [V, K, D+1]."""
        log_p = (self.x @ W.transpose(1, 2)).log_softmax(-1)  # [V, N, K]
        penalised = W.clone()
        penalised[..., -1] = 0
        value = -log_p.gather(-1, self.labels).mean((1, 2))
        value = value + 0.5 * (self.decay * penalised * W).sum((1, 2))
        residual = log_p.exp_()
        residual.scatter_add_(-1, self.labels, -torch.ones_like(residual[..., :1]))
        gradient = residual.transpose(1, 2) @ self.x / self.x.shape[1] + self.decay * penalised
        return value, gradient

    def part(self, kept: Tensor) -> "_Problem":
        """Some of the problems."""
        return _Problem(self.x[kept], self.labels[kept], self.decay[kept])


def _minimise(problem: _Problem, start: Tensor) -> Tensor:
    """L-BFGS with Armijo backtracking, every row of `start` [V, K, D+1] a problem of its own."""
    found = torch.full_like(start, nan)
    left = torch.arange(len(start), device=start.device)  # which problems are still worked on
    w = start
    value, gradient = problem.at(w)
    pairs: list[tuple[Tensor, Tensor]] = []  # steps and gradient differences, newest last
    for _ in range(MAX_STEPS):
        direction = _direction(gradient, pairs)
        size, trial, trial_value, trial_gradient = _search(problem, w, value, gradient, direction)
        pairs = [*pairs, (trial - w, trial_gradient - gradient)][-MEMORY:]
        w, value, gradient = trial, trial_value, trial_gradient
        steepness = gradient.abs().amax((1, 2))
        done = (steepness <= TOLERANCE) | (size == 0)
        if not done.any():
            continue
        settled = done & (steepness <= SETTLED)
        found[left[settled]] = w[settled]
        kept = ~done
        if not kept.any():
            break
        left, w, value, gradient = left[kept], w[kept], value[kept], gradient[kept]
        problem = problem.part(kept)
        pairs = [(s[kept], y[kept]) for s, y in pairs]
    return found


def _search(
    problem: _Problem, w: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Size, w, value and gradient after the first of the steps 1, 1/2, 1/4, ... that does enough.

    A problem that no step lowers stays where it is, with size 0.
    """
    slope = (direction * gradient).sum((1, 2))
    size = torch.ones_like(value)
    for _ in range(MAX_HALVINGS):
        trial = w + size[:, None, None] * direction
        trial_value, trial_gradient = problem.at(trial)
        lower = trial_value <= value + ARMIJO * size * slope
        if lower.all():
            return size, trial, trial_value, trial_gradient
        size = torch.where(lower, size, size / 2)
    moved = lower[:, None, None]
    return (
        torch.where(lower, size, 0.0),
        torch.where(moved, trial, w),
        torch.where(lower, trial_value, value),
        torch.where(moved, trial_gradient, gradient),
    )


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion (Nocedal 1980), row by row; pairs without curvature do not count."""
    if not pairs:
        length: Tensor = gradient.norm(dim=(1, 2), keepdim=True)
        return -gradient / length.clamp_min(1.0)
    q = gradient.clone()
    used = []
    for s, y in reversed(pairs):
        curvature = _dot(s, y)
        rho = torch.where(curvature > 1e-30, 1 / curvature, 0.0)
        a = rho * _dot(s, q)
        q -= a * y
        used.append((s, y, rho, a))
    s, y = pairs[-1]
    length = _dot(y, y)
    q *= torch.where(length > 1e-30, _dot(s, y) / length, 1.0)
    for s, y, rho, a in reversed(used):
        q += (a - rho * _dot(y, q)) * s
    return -q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)  # [V, 1, 1]
