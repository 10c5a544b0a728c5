"""Sums over classes: a row after the other, so that their bits do not depend on the device."""

import pytest
import torch

from cacheclip.heads.classes import class_means, class_sums, class_votes


@pytest.mark.parametrize("shape", [(), (5,)])
def test_sums_are_those_of_a_loop_over_the_rows_to_the_last_bit(shape: tuple[int, ...]) -> None:
    """Class 3 has no row, and variants have their rows in other orders."""
    random = torch.Generator().manual_seed(0)
    labels = torch.stack([torch.tensor([0, 2, 1, 2, 0, 2])[torch.randperm(6)] for _ in range(3)])
    x = torch.randn(3, 6, *shape, generator=random)
    expected = torch.zeros(3, 4, *shape)
    for v in range(3):
        for row, label in zip(x[v], labels[v], strict=True):
            expected[v, label] += row
    assert class_sums(x, labels, 4).equal(expected)


def test_means_count_each_row_once_and_are_zero_without_any() -> None:
    x, labels = torch.randn(1, 3, 2), torch.tensor([[1, 1, 0]])
    means = class_means(x, labels, 3)[0]
    assert means.equal(torch.stack([x[0, 2], (x[0, 0] + x[0, 1]) / 2, torch.zeros(2)]))


def test_votes_are_the_same_sums_of_the_last_axis() -> None:
    weights, labels = torch.randn(2, 4, 7), torch.randint(3, (2, 7))
    assert class_votes(weights, labels, 3).equal(class_sums(weights.mT, labels, 3).mT)
