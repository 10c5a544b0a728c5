"""Multinomial logistic regression with an L2 penalty, many problems at once, by L-BFGS.

Two exact changes of coordinates make the problems of one draw easy, whatever their C:

- The intercept is free, so the rows may be centred. Features of CLIP share one large mean
  direction; centring takes it out of the way.
- The optimum lies in the span of the rows. There, in the eigenvectors of X^T X, the penalty stays
  what it is and the Hessian is close to a diagonal h s_j + 1 / (C N): s_j are the eigenvalues of
  X^T X / N, and h, the mean of p (1 - p), is the same for all classes and coordinates. It is exact
  at W = 0, where p = 1 / K. L-BFGS starts every direction from this diagonal.

The logits are linear in the step, so the search along a direction costs no matrix product.
"""

from dataclasses import dataclass, replace
from math import nan

import torch
from torch import Tensor

MEMORY = 5  # pairs of steps and gradient differences kept
MAX_STEPS = 1000
TOLERANCE = {torch.float32: 2e-8, torch.float64: 1e-13}  # what the mean objective may still fall
SETTLED = 1e-6  # as good as there where rounding ends the search before
LEAST_MISS = 0.03  # of steps: rows that are told right lend a step too little curvature
UPHILL = 0.5  # a step may end on the other side of the valley, no steeper than this
MAX_TRIALS = 30


def logistic_regression(
    x: Tensor,
    labels: Tensor,
    draw: Tensor,
    C: Tensor,
    n_classes: int,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The minimum over (W, b) of C sum_i CE(W x_i + b, y_i) + |W|^2 / 2, scikit-learn's objective.

    The intercept carries no penalty. The work is done on the mean objective, that divided by C N,
    until a step is expected to lower it by less than `TOLERANCE`; that step is still taken. The
    arithmetic is that of x, float32 at least, and float64 for a problem that float32 cannot settle
    (C beyond about 1e8).

    Args:
        x: [U, N, D], the rows of U draws.
        labels: [U, N] int64.
        draw: [V] int64, the draw that a problem reads.
        C: [V], the inverse of the penalty's weight.
        n_classes: K.
        weights: [U, N], what each row's CE counts, on average 1; None where each counts 1.

    Returns:
        W [V, K, D] and b [V, K] in the dtype of x; NaN without convergence or finite x.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    W = x.new_full((len(C), n_classes, x.shape[2]), nan)
    b = x.new_full((len(C), n_classes), nan)
    for u in range(len(x)):
        if not x[u].isfinite().all():
            continue
        of_it = (draw == u).nonzero().flatten()
        for precision in dict.fromkeys((dtype, torch.float64)):
            own = None if weights is None else weights[u].to(precision)
            solved = _one_draw(
                x[u].to(precision), labels[u], C[of_it].to(precision), n_classes, own
            )
            W[of_it], b[of_it] = (found.to(x.dtype) for found in solved)
            of_it = of_it[solved[1].isnan().any(1)]
            if not len(of_it):
                break
    return W, b


def _one_draw(
    x: Tensor, labels: Tensor, C: Tensor, n_classes: int, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """W [V, K, D] and b [V, K] from x [N, D], labels [N], C [V] and weights [N]."""
    N, D = x.shape
    centre = x.mean(0) if weights is None else weights @ x / N
    rows = x - centre
    span = None
    if N < D:
        span, triangle = torch.linalg.qr(rows.T)
        rows = triangle.T  # [N, r], r = min(N, D)
    squares, turn = torch.linalg.eigh(
        rows.T @ (rows if weights is None else rows * weights[:, None])
    )
    basis = turn if span is None else span @ turn  # [D, r]
    decay = (1 / (C * N))[:, None].expand(-1, len(squares))
    problem = _Problem(
        x=torch.cat([rows @ turn, rows.new_ones(N, 1)], 1),
        labels=labels,
        spread=torch.cat([squares.clamp_min(0) / N, squares.new_ones(1)]),
        decay=torch.cat([decay, decay.new_zeros(len(C), 1)], 1).unsqueeze(1),
        n_classes=n_classes,
        weights=weights,
    )
    found = _minimise(problem)
    W = found[..., :-1] @ basis.T
    return W, found[..., -1] - W @ centre


@dataclass(frozen=True)
class _Problem:
    """V problems of one draw, in coordinates of their own.

    x [N, R] ends with a column of ones; labels [N]; spread [R] is the mean of each column's
    squares; decay [V, 1, R] is 1 / (C N), and 0 for the intercept; weights [N], or None for ones.
    """

    x: Tensor
    labels: Tensor
    spread: Tensor
    decay: Tensor
    n_classes: int
    weights: Tensor | None

    def logits(self, W: Tensor) -> Tensor:
        """[N, V, K] of W [V, K, R]."""
        return (self.x @ W.flatten(0, 1).T).view(len(self.x), *W.shape[:2])

    def loss(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean cross entropy [V], its gradient N d/dlogits [N, V, K], and 1 - mean p_own [V]."""
        own = self.labels[:, None, None].expand(-1, logits.shape[1], 1)
        log_p = logits.log_softmax(-1)
        log_own = log_p.gather(-1, own)
        residual = log_p.exp_()
        residual.scatter_add_(-1, own, -torch.ones_like(log_own))
        if self.weights is None:
            return -log_own.mean((0, 2)), residual, 1 - log_own.exp_().mean((0, 2))
        each = self.weights[:, None, None]  # [N, 1, 1]
        residual *= each
        loss = -(log_own * each).mean((0, 2))
        return loss, residual, 1 - log_own.exp_().mul_(each).mean((0, 2))

    def gradient(self, residual: Tensor, W: Tensor) -> Tensor:
        """Of the mean objective: [V, K, R]."""
        of_loss = (residual.flatten(1).T @ self.x).view_as(W).div_(len(self.x))
        return of_loss.addcmul_(self.decay, W)

    def inverse_curvature(self, miss: Tensor, least: float) -> Tensor:
        """The inverse of the Hessian's diagonal, [V, 1, R], with h from the share [V] missed."""
        h = miss.clamp_min(least) / max(1, self.n_classes - 1)
        return 1 / (h[:, None, None] * self.spread + self.decay)

    def part(self, kept: Tensor) -> "_Problem":
        """Some of the problems."""
        return replace(self, decay=self.decay[kept])


@dataclass(frozen=True)
class _Pair:
    """A step and what it did to the gradient, both [V, K, R], and 1 / (step . change) [V, 1, 1]."""

    step: Tensor
    change: Tensor
    rho: Tensor

    def part(self, kept: Tensor) -> "_Pair":
        return _Pair(self.step[kept], self.change[kept], self.rho[kept])


def _minimise(problem: _Problem) -> Tensor:
    """W [V, K, R] by L-BFGS from 0. Problems that are done leave the stack."""
    V, K, R = len(problem.decay), problem.n_classes, problem.x.shape[1]
    w = problem.x.new_zeros(V, K, R)
    logits = problem.x.new_zeros(len(problem.x), V, K)
    found = torch.full_like(w, nan)
    left = torch.arange(V, device=w.device)  # which problems are still worked on
    loss, residual, miss = problem.loss(logits)
    gradient = problem.gradient(residual, w)
    pairs: list[_Pair] = []  # newest last
    stuck = torch.zeros_like(left, dtype=torch.bool)
    enough = 2 * TOLERANCE[w.dtype]
    for _ in range(MAX_STEPS):
        direction = _direction(gradient, pairs, problem.inverse_curvature(miss, LEAST_MISS))
        fall = -_dot(direction, gradient)[:, 0, 0]  # half of it is what the objective may lose
        done = stuck | ~(fall > enough)
        if done.any():
            # Where every row is told right, the penalty alone bends the objective: look again.
            furthest = gradient * problem.inverse_curvature(miss, 1e-12)
            done &= stuck | ~(_dot(furthest, gradient)[:, 0, 0] > 2 * SETTLED)
        if done.any():
            settled = done & (fall <= 2 * SETTLED)
            last_step = torch.where(stuck[:, None, None], 0, direction)
            found[left[settled]] = (w + last_step)[settled]
            kept = ~done
            if not kept.any():
                break
            left, w, loss, gradient = left[kept], w[kept], loss[kept], gradient[kept]
            direction, fall, logits = direction[kept], fall[kept], logits[:, kept]
            problem, pairs = problem.part(kept), [pair.part(kept) for pair in pairs]
        size, logits, loss, residual, miss = _search(problem, w, logits, loss, direction, fall)
        stuck = size == 0
        step = direction.mul_(size[:, None, None])
        w = w + step
        before, gradient = gradient, problem.gradient(residual, w)
        change = gradient - before
        curvature = _dot(step, change)
        rho = torch.where(curvature > 0, 1 / curvature, 0)
        pairs = [*pairs, _Pair(step, change, rho)][-MEMORY:]
    return found


def _search(
    problem: _Problem, w: Tensor, logits: Tensor, loss: Tensor, direction: Tensor, fall: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Size [V] of the step along `direction`; logits, loss, residual and miss after it.

    Sizes shrink from 1 by the secant of the slope, until it climbs no more than `UPHILL` says and
    the objective did not rise. The slope tells what is lost in the rounding of the objective. A
    problem without such a step gets size 0.
    """
    N = len(logits)
    along = problem.logits(direction)
    pull = (problem.decay * w * direction).sum((1, 2))
    bend = (problem.decay * direction.square()).sum((1, 2))
    rounding = 8 * torch.finfo(loss.dtype).eps * (1 + loss)
    size = torch.ones_like(loss)
    for _ in range(MAX_TRIALS):
        there = torch.addcmul(logits, along, size[:, None])
        new_loss, residual, miss = problem.loss(there)
        rise = new_loss - loss + size * pull + 0.5 * size.square() * bend
        slope = (residual * along).sum((0, 2)) / N + pull + size * bend
        good = (slope <= UPHILL * fall) & (rise <= rounding)
        if good.all():
            return size, there, new_loss, residual, miss
        secant = (fall / (fall + slope)).clamp(0.1, 0.5)
        size = torch.where(good, size, size * secant)
    size = torch.where(good, size, 0)
    there = torch.addcmul(logits, along, size[:, None])
    return (size, there, *problem.loss(there))


def _direction(gradient: Tensor, pairs: list[_Pair], inverse_curvature: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal 1980), row by row; pairs without curvature do not count."""
    q = gradient.neg()
    weights = []
    for pair in reversed(pairs):
        a = pair.rho * _dot(pair.step, q)
        q.addcmul_(pair.change, -a)
        weights.append(a)
    q *= inverse_curvature
    if pairs:
        last = pairs[-1]
        length = last.rho * _dot(last.change * inverse_curvature, last.change)
        q *= torch.where(length > 0, 1 / length, 1)
    for pair, a in zip(pairs, reversed(weights), strict=True):
        q.addcmul_(pair.step, a - pair.rho * _dot(pair.change, q))
    return q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)  # [V, 1, 1]
