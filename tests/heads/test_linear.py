"""Gradients of heads with a weight row a class, against autograd in float64."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import cosine_grad, pulled, residual
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.task import Query, unit

V, B, C, D = 3, 6, 5, 7


def normal(*shape: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


LABELS = torch.arange(V * B).view(V, B) % C
X = Query({"image": unit(normal(V, B, D, seed=1))})
WEIGHT = 3 * normal(V, C, D, seed=2)
SCALE = torch.tensor([1.0, 16.0, 100.0], dtype=torch.float64)


def test_the_residual_is_the_gradient_in_the_logits() -> None:
    logits = normal(V, B, C, seed=3).requires_grad_()
    (exact,) = torch.autograd.grad(mean_cross_entropy(logits, LABELS).sum(), logits)
    torch.testing.assert_close(residual(logits.detach(), LABELS), exact, rtol=0, atol=1e-15)


def test_a_product_with_the_residual_is_the_gradient_of_a_linear_head() -> None:
    weight = WEIGHT.clone().requires_grad_()
    logits = X["image"] @ weight.mT
    (exact,) = torch.autograd.grad(mean_cross_entropy(logits, LABELS).sum(), weight)
    outer = Outer(residual(logits.detach(), LABELS), X["image"])
    torch.testing.assert_close(outer.formed(WEIGHT), exact, rtol=0, atol=1e-14)


def test_the_gradient_of_a_cosine_head_is_that_of_its_loss() -> None:
    weight = WEIGHT.clone().requires_grad_()
    loss = mean_cross_entropy(cosine_logits(X, unit(weight), SCALE), LABELS)
    (exact,) = torch.autograd.grad(loss.sum(), weight)
    ours = cosine_grad(X, LABELS, WEIGHT, SCALE).formed(WEIGHT)
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)
    # Row by row it leaves the length of the weight alone.
    torch.testing.assert_close(
        (ours * WEIGHT).sum(-1), torch.zeros(V, C).double(), atol=1e-12, rtol=0
    )


def test_a_pull_is_the_gradient_of_its_penalty() -> None:
    weight, anchor, strength = (
        WEIGHT.clone().requires_grad_(),
        normal(V, C, D, seed=4),
        SCALE[:, None],
    )
    loss = mean_cross_entropy(cosine_logits(X, unit(weight), SCALE), LABELS)
    penalty = (strength / 2 * (weight - anchor).square().sum(-1)).sum(-1)
    (exact,) = torch.autograd.grad((loss + penalty).sum(), weight)
    ours = pulled(cosine_grad(X, LABELS, WEIGHT, SCALE), strength, anchor)
    torch.testing.assert_close(ours.formed(WEIGHT), exact, rtol=0, atol=1e-11)
    alone = pulled(Outer(torch.zeros(V, B, C).double(), X["image"]), strength, anchor[0])
    pull = strength[..., None] * (WEIGHT - anchor[0])
    torch.testing.assert_close(alone.formed(WEIGHT), pull, rtol=0, atol=1e-12)
