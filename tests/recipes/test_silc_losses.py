"""The losses of the self-distillation recipe, each in a case known by hand."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(scope="module")
def losses() -> ModuleType:
    spec = importlib.util.spec_from_file_location("losses", RECIPES / "silc" / "losses.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normal(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_a_student_that_is_its_teacher_pays_the_entropy(losses: ModuleType) -> None:
    """One view, no centring, equal temperatures."""
    outputs = normal(1, 3, 8)
    shares = (outputs[0] / 0.1).softmax(dim=1)
    entropy = -(shares * shares.log()).sum(dim=1).mean()
    targets = losses.target(outputs, torch.zeros(8), 0.1)
    torch.testing.assert_close(losses.distillation(outputs, targets, 0.1), entropy)


def test_a_centred_constant_is_a_uniform_target(losses: ModuleType) -> None:
    output = normal(8)
    centre = torch.zeros(8, dtype=torch.float64)
    for _ in range(200):
        centre = losses.moved(centre, output, 0.9)
    targets = losses.target(output.expand(5, 8), centre, 0.04)
    torch.testing.assert_close(targets, torch.full_like(targets, 1 / 8), atol=1e-6, rtol=0)


def test_the_momentum_freezes_the_teacher_at_1_and_copies_the_student_at_0(
    losses: ModuleType,
) -> None:
    teacher, student = normal(3, 4), normal(3, 4, seed=2)
    assert torch.equal(losses.moved(teacher, student, 1.0), teacher)
    assert torch.equal(losses.moved(teacher, student, 0.0), student)


def test_the_distillation_is_the_mean_over_pairs_of_views(losses: ModuleType) -> None:
    student, teacher, centre = normal(4, 3, 8), normal(2, 3, 8, seed=2), normal(8, seed=3)
    targets = losses.target(teacher, centre, 0.04)
    pairs = [
        -(goal @ (said / 0.1).log_softmax(dim=0)).item()
        for local in student
        for world in targets
        for said, goal in zip(local, world, strict=True)
    ]
    got = losses.distillation(student, targets, 0.1).item()
    assert got == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


def test_no_gradient_reaches_the_teacher(losses: ModuleType) -> None:
    teacher, student = normal(2, 3, 8).requires_grad_(), normal(4, 3, 8, seed=2).requires_grad_()
    losses.distillation(student, losses.target(teacher, torch.zeros(8), 0.04), 0.1).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


def test_the_sigmoid_loss_of_one_pair_and_of_many(losses: ModuleType) -> None:
    images = functional.normalize(normal(3, 5), dim=1)
    texts = functional.normalize(normal(3, 5, seed=2), dim=1)
    scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
    one = losses.sigmoid_pairs(images[:1], texts[:1], scale, bias).item()
    z = 10 * (images[0] @ texts[0]).item() - 10
    assert one == pytest.approx(math.log1p(math.exp(-z)), rel=1e-6)
    expected = sum(
        math.log1p(math.exp((-1 if i == j else 1) * (10 * (images[i] @ texts[j]).item() - 10)))
        for i in range(3)
        for j in range(3)
    )
    got = losses.sigmoid_pairs(images, texts, scale, bias).item()
    assert got == pytest.approx(expected / 3, rel=1e-6)
