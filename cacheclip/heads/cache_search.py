"""The cache's alpha and beta from validation pictures: 200 betas, and for each the best alpha.

All betas share one product with the keys, alpha is exact in its range (`heads/breakpoints.py`), and
what is kept of a picture is the two ends of its interval for each beta. Hits make a shortlist: what
is chosen in the end is likelihood's to say, for which the logits of those points are computed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cacheclip.heads.breakpoints import MOST, Margins, most_overlap, or_zero
from cacheclip.heads.cache import Cache, class_sums
from cacheclip.heads.points import Points
from cacheclip.heads.temperature import label_log_p
from cacheclip.metrics import hits

TILE = 2**19  # weights of single keys worked on at once: they should stay in a core's cache

_LEAST = 1e-30  # a beta of 0 as far as any weight can tell


@dataclass(frozen=True)
class Betas:
    """Values start 2^q, q below `doublings`: a weight exp(-beta (1 - x k)) squared is the next.

    Squaring doubles a rounding error, so a chain is short and then an exponential starts anew.
    """

    starts: tuple[float, ...]
    doublings: int

    def values(self) -> Tensor:
        """All betas, chain after chain: [P] float64."""
        starts = torch.tensor(self.starts, dtype=torch.float64)
        return (starts[:, None] * 2.0 ** torch.arange(self.doublings)).flatten()


# 0.2 to 49.8, 25 an octave: what the released searches span between them, 0.1 to 50. Even in the
# logarithm, since a doubling sharpens the votes as much at 0.2 as at 20; below 0.2 votes are linear
# in beta, which alpha makes up for.
GRID = Betas(tuple(0.2 * 2 ** (j / 25) for j in [*range(25), *range(100, 125)]), doublings=4)
RANGES = {"alpha": (0.0, MOST), "beta": (0.2, 0.2 * 2 ** (124 / 25 + 3))}


def tune(
    x: Tensor,
    cache: Cache,
    zero_shot: Tensor,
    labels: Tensor,
    alpha: Tensor,
    beta: Tensor,
    wanted: Collection[str],
    folds: int = 1,
) -> Points:
    """Alpha, beta or both, whichever is wanted, from n validation pictures.

    The first point is zero-shot where alpha is wanted, then come the constants; then the best alpha
    for each beta, from the smoothest votes to the sharpest.

    Args:
        x: pictures [n, D] or [V, n, D], unit rows in the channels of the keys.
        cache: of V variants.
        zero_shot: [V, n, C] logits.
        labels: [n] or [V, n] int64.
        alpha: [V], the constants; what holds where it is not wanted.
        beta: [V], likewise.
        wanted: `alpha`, `beta`.
        folds: as `points.tried` has it: F neighbouring caches have one alpha and one beta, found on
            the pictures of them all.

    Returns:
        The wanted settings' values [V / F, T]; hits [V / F, T] int64; and log p [V / F, T, F n] of
        the labels, as `label_log_p` has it, -inf for points whose hits alone rule them out: more
        than one standard error below the best.
    """
    problems = [
        _Problem(
            x[v] if x.ndim > 2 else x,
            cache.variant(v),
            zero_shot[v],
            labels[v] if labels.ndim > 1 else labels,
        )
        for v in range(len(cache.keys))
    ]
    points = [
        _tune_one(problems[v : v + folds], alpha[v : v + 1], beta[v : v + 1], wanted)
        for v in range(0, len(problems), folds)
    ]
    alphas, betas, counts, log_p = (torch.stack(each) for each in zip(*points, strict=True))
    settings = {n: values for n, values in (("alpha", alphas), ("beta", betas)) if n in wanted}
    return settings, counts, log_p


@dataclass(frozen=True)
class _Problem:
    """One variant's pictures x [n, D], cache [M, D], zero-shot logits [n, C] and labels [n]."""

    x: Tensor
    cache: Cache
    zero_shot: Tensor
    labels: Tensor


def _tune_one(
    folds: Sequence[_Problem], alpha: Tensor, beta: Tensor, wanted: Collection[str]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Alpha, beta and hits of the points that folds share, [T] each, and log p [T, n] of all n."""
    zero_shot = torch.cat([fold.zero_shot for fold in folds])
    labels = torch.cat([fold.labels for fold in folds])
    grid = GRID if "beta" in wanted else Betas((float(beta),), doublings=1)
    kept = None if "alpha" in wanted else alpha
    alphas, counts = _searched(folds, grid, kept)
    betas = grid.values().to(alphas)
    order = betas.argsort()
    first = [alphas.new_zeros(1)] if "alpha" in wanted else []
    first.append(alpha.to(alphas))
    alphas = torch.cat([*first, alphas[order]])
    betas = torch.cat([beta.to(alphas).expand(len(first)), betas[order]])
    counts = torch.cat([counts.new_zeros(len(first)), counts[order]])
    n = len(labels)
    share = counts.max() / n
    worth = counts >= counts.max() - (n * share * (1 - share)).sqrt()
    worth[: len(first)] = True
    log_p = zero_shot.new_full((len(alphas), n), -torch.inf)
    judged = worth.nonzero().flatten()
    at_once = max(1, 16 * TILE // zero_shot.numel())
    for start in range(0, len(judged), at_once):
        point = judged[start : start + at_once]
        logits = torch.cat([_logits_at(fold, alphas[point], betas[point]) for fold in folds], 1)
        log_p[point] = label_log_p(logits, labels)
        counts[point] = hits(logits, labels)  # what the very logits say, rounding included
    return alphas, betas, counts, log_p


def _logits_at(problem: _Problem, alpha: Tensor, beta: Tensor) -> Tensor:
    """The cache's logits at P pairs of one variant: [P, n, C]. One product serves them all."""
    cache, zero_shot = problem.cache, problem.zero_shot
    n, C = zero_shot.shape
    votes = zero_shot.new_empty(len(alpha), n, C)
    rows = max(1, TILE // len(cache.keys))
    for i in range(0, n, rows):
        near = problem.x[i : i + rows] @ cache.keys.mT - 1  # [rows, M]
        for p, sharpness in enumerate(beta.tolist()):
            votes[p, i : i + rows] = class_sums((near * sharpness).exp_(), cache, C)
    return votes.mul_(alpha[:, None, None]).add_(zero_shot)


def search(
    x: Tensor,
    cache: Cache,
    zero_shot: Tensor,
    labels: Tensor,
    betas: Betas = GRID,
    alpha: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best alpha for each beta, or what a given alpha does there, on n pictures.

    Args:
        x: [n, D] unit rows.
        cache: of one variant, without the leading axis.
        zero_shot: [n, C] logits.
        labels: [n] int64.
        betas: P values.
        alpha: [1], kept; without it searched from 0 to `breakpoints.MOST`.

    Returns:
        alpha [P] and int64 hits [P], in the order of `betas.values()`.
    """
    return _searched([_Problem(x, cache, zero_shot, labels)], betas, alpha)


def _searched(
    folds: Sequence[_Problem], betas: Betas, alpha: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `search` gives, on the pictures of all folds, each by its own cache."""
    ends = [_ends(fold, betas, alpha) for fold in folds]
    counts = torch.stack([counts for _, _, counts in ends]).sum(0)
    if alpha is not None:
        return alpha.expand(len(counts)), counts
    lower, upper = (torch.cat(each, 1) for each in list(zip(*ends, strict=True))[:2])
    at_once = max(1, TILE // lower.shape[1])
    best = [
        most_overlap(lower[p : p + at_once], upper[p : p + at_once])
        for p in range(0, len(lower), at_once)
    ]
    found = torch.cat([a for a, _ in best]), torch.cat([c for _, c in best])
    zero_shot = torch.cat([fold.zero_shot for fold in folds])
    return or_zero(*found, zero_shot, torch.cat([fold.labels for fold in folds]))


def _ends(problem: _Problem, betas: Betas, alpha: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Between which alphas each picture is right, [P, n] twice, or [P] hits where one is given."""
    x, cache, zero_shot, labels = problem.x, problem.cache, problem.zero_shot, problem.labels
    n, C = zero_shot.shape
    slots = _Slots.of(cache, C)
    L, P = betas.doublings, betas.doublings * len(betas.starts)
    rows = min(n, max(1, TILE // len(slots.keys)))
    lower, upper = x.new_empty(P, n), x.new_empty(P, n)
    counts = torch.zeros(P, dtype=torch.int64, device=x.device)
    for i in range(0, n, rows):
        part = slice(i, i + rows)
        near = slots.near(x[part])  # [k, C, rows]
        weight = torch.empty_like(near)
        votes = near.new_empty(L, *near.shape[1:])  # [L, C, rows]
        # In the memory order of the votes, so that elementwise passes run straight through.
        without = zero_shot[part].mT.contiguous().mT
        margins = Margins(without, labels[part])
        for j, start in enumerate(betas.starts):
            # A beta of 0 would make an empty slot not a number at all.
            torch.mul(near, max(start, _LEAST), out=weight).exp_()
            for q in range(L):
                if q:
                    weight.mul_(weight)
                slots.add_up(weight, out=votes[q])
            chain = slice(j * L, j * L + L)
            if alpha is None:
                lower[chain, part], upper[chain, part] = margins.ends(votes.mT)
            else:
                counts[chain] += hits(without + alpha * votes.mT, labels[part])
    return lower, upper, counts


@dataclass(frozen=True)
class _Slots:
    """A cache's keys in k slots of one a class, [k C, D]; which slots are empty, [k C].

    A sum over the first axis of [k, C, ..] adds whole rows, however few keys a class has.
    """

    keys: Tensor
    empty: Tensor
    values: Tensor | None
    k: int

    @classmethod
    def of(cls, cache: Cache, n_classes: int) -> "_Slots":
        by_class, order = cache.labels.sort(stable=True)
        counts = cache.labels.bincount(minlength=n_classes)
        k = int(counts.max())
        before = (counts.cumsum(0) - counts)[by_class]
        slot = torch.arange(len(order), device=order.device) - before
        place = slot * n_classes + by_class

        def laid(x: Tensor) -> Tensor:
            return x.new_zeros(k * n_classes, *x.shape[1:]).index_copy_(0, place, x[order])

        empty = ~laid(torch.ones_like(cache.labels, dtype=torch.bool))
        values = None if cache.values is None else laid(cache.values).view(k, -1, 1)
        return cls(laid(cache.keys), empty, values, k)

    def near(self, x: Tensor) -> Tensor:
        """Affinities x k - 1 of rows [n, D], endlessly low for an empty slot: [k, C, n]."""
        near = (self.keys @ x.mT).sub_(1)  # [k C, n]
        if self.empty.any():
            near.masked_fill_(self.empty[:, None], -torch.inf)
        return near.view(self.k, -1, len(x))

    def add_up(self, weight: Tensor, out: Tensor) -> None:
        """The votes [C, n] of weights [k, C, n]."""
        torch.sum(weight if self.values is None else weight * self.values, 0, out=out)
