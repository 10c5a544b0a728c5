"""Random features of a shape: unit rows around one direction a class, and noisy text."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cacheclip.bench.shapes import Shape
from cacheclip.task import unit

LOGIT_SCALE = 100.0
NOISE = 4.0  # times the length of a class's direction: about half of the rows are told right
CHECKED = 2000  # test rows that outputs are compared on


@dataclass(frozen=True)
class Features:
    """Support rows class by class, test rows, and the text of the classes.

    Attributes:
        support: [N, D] unit rows.
        labels: [N] int64.
        test: [M, D] unit rows.
        test_labels: [M] int64.
        text: [C, D] unit rows.
    """

    support: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    text: Tensor


def features(shape: Shape, device: torch.device, test: int = CHECKED) -> Features:
    """The same numbers every time."""
    g = torch.Generator().manual_seed(0)
    centres = unit(torch.randn(shape.classes, shape.dim, generator=g))

    def around(labels: Tensor, noise: float) -> Tensor:
        spread = torch.randn(len(labels), shape.dim, generator=g) * (noise / shape.dim**0.5)
        return unit(centres[labels] + spread).to(device)

    labels = torch.arange(shape.classes).repeat_interleave(shape.shots)
    test_labels = torch.randint(shape.classes, (test,), generator=g)
    return Features(
        support=around(labels, NOISE),
        labels=labels.to(device),
        test=around(test_labels, NOISE),
        test_labels=test_labels.to(device),
        text=around(torch.arange(shape.classes), NOISE / 2),
    )
