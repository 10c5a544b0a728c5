"""The votes of a cache, with values and as the fused sum, against a loop over single keys."""

from dataclasses import replace
from math import exp

import pytest
import torch
from torch import Tensor

from cacheclip.heads.cache import Cache, cache_grad, cache_logits, cache_votes, fused_votes
from cacheclip.heads.cache_search import GRID, search
from cacheclip.task import unit

V, C, D, N = 2, 5, 6, 9
CLASSES = ([0, 3, 3, 1, 4, 0, 3], [4, 4, 2, 0, 2, 4, 1])  # unsorted, and one has no key
BETA = torch.tensor([2.0, 5.5], dtype=torch.float64)
ALPHA = torch.tensor([1.5, 0.7], dtype=torch.float64)


def problem() -> tuple[Tensor, Cache, Tensor, Tensor]:
    """Pictures [V, N, D], a cache with values, zero-shot logits [V, N, C] and labels [V, N]."""
    g = torch.Generator().manual_seed(3)
    labels = torch.tensor(CLASSES)
    keys = unit(torch.randn(V, labels.shape[1], D, generator=g, dtype=torch.float64))
    values = torch.rand(labels.shape, generator=g, dtype=torch.float64) + 0.5
    x = unit(torch.randn(V, N, D, generator=g, dtype=torch.float64))
    zero_shot = torch.randn(V, N, C, generator=g, dtype=torch.float64)
    return x, Cache(keys, labels, values), zero_shot, torch.arange(N).expand(V, N) % C


def test_a_key_votes_for_its_class_with_its_value() -> None:
    x, cache, zero_shot, _ = problem()
    expected = zero_shot.clone()
    assert cache.values is not None
    for v in range(V):
        for k, label in enumerate(CLASSES[v]):
            for i in range(N):
                near = float(x[v, i] @ cache.keys[v, k])
                vote = float(cache.values[v, k]) * exp(-float(BETA[v]) * (1 - near))
                expected[v, i, label] += float(ALPHA[v]) * vote
    got = cache_logits(x, cache, zero_shot, ALPHA, BETA)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
def test_the_fused_sum_is_the_same_and_so_is_its_gradient(shared: bool) -> None:
    x, cache, _, _ = problem()
    x = x[0] if shared else x
    weights = torch.randn(V, N, C, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    votes: list[Tensor] = []
    grads: list[Tensor] = []
    for form in (cache_votes, fused_votes):
        keys = cache.keys.clone().requires_grad_()
        votes.append(form(x, Cache(keys, cache.labels), BETA, C))
        grads += torch.autograd.grad((votes[-1] * weights).sum(), keys)
    torch.testing.assert_close(votes[1], votes[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)


def test_the_gradient_in_the_keys_is_that_of_autograd_with_values_and_without() -> None:
    x, valued, zero_shot, labels = problem()
    for cache in (valued, replace(valued, values=None)):
        keys = cache.keys.clone().requires_grad_()
        logits = cache_logits(x, replace(cache, keys=keys), zero_shot, ALPHA, BETA)
        own = logits.log_softmax(-1).gather(-1, labels[..., None])
        (expected,) = torch.autograd.grad(-own.mean((1, 2)).sum(), keys)
        before = zero_shot.clone()
        outer = cache_grad(x, cache, zero_shot, ALPHA, BETA, labels)
        assert torch.equal(zero_shot, before)
        torch.testing.assert_close(outer.a.mT @ outer.b, expected, rtol=0, atol=1e-12)


def test_a_value_of_two_is_a_key_that_is_there_twice() -> None:
    x, cache, zero_shot, _ = problem()
    twos = torch.full_like(cache.keys[..., 0], 2.0)
    twice = Cache(cache.keys.repeat(1, 2, 1), cache.labels.repeat(1, 2))
    torch.testing.assert_close(
        cache_logits(x, replace(cache, values=twos), zero_shot, ALPHA, BETA),
        cache_logits(x, twice, zero_shot, ALPHA, BETA),
        rtol=0,
        atol=1e-12,
    )


def test_a_search_counts_the_hits_of_the_logits_under_values() -> None:
    x, cache, zero_shot, labels = problem()
    alphas, counts = search(x[0], cache.variant(0), zero_shot[0], labels[0])
    betas = GRID.values()
    for alpha, beta, count in zip(alphas.tolist(), betas.tolist(), counts.tolist(), strict=True):
        at = (torch.full_like(ALPHA, alpha), torch.full_like(BETA, beta))
        logits = cache_logits(x, cache, zero_shot, *at)[0]
        assert int((logits.argmax(-1) == labels[0]).sum()) == count
