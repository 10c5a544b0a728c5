"""The image tower above the kept crops, with the projector that the distillation reads."""

from __future__ import annotations

import copy

import torch
from open_clip import CustomTextCLIP
from torch import Tensor, nn
from torch.nn import functional

from recipes.silc.config import Config
from recipes.silc.losses import moved

HIDDEN, NECK = 512, 128
START_BIAS = -10.0  # of the sigmoid loss; the softmax loss has none


class Top(nn.Module):
    """The trunk's top, the projection to the texts' space, and the projector to the prototypes.

    Args:
        model: Whose image tower it takes, not copies.
        config: The cut and the number of prototypes.
    """

    def __init__(self, model: CustomTextCLIP, config: Config) -> None:
        """Draws the projector's weights from torch's generator."""
        super().__init__()
        trunk = model.visual.trunk
        self.trunk = nn.Sequential(*trunk.blocks[config.cut :], trunk.conv_head, trunk.bn2)
        self.projection = model.visual.head.proj
        width = self.projection.in_features
        self.projector = nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, NECK))
        self.bias = nn.Parameter(torch.tensor(START_BIAS))
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, NECK))

    def pooled(self, kept: Tensor) -> Tensor:
        """Gives [n, 1280] of what was kept of crops, [n, c, s, s]."""
        return self.trunk(kept.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))

    def outputs(self, pooled: Tensor) -> Tensor:
        """Gives [n, K]: cosines with the prototypes, before any temperature."""
        neck = functional.normalize(self.projector(pooled), dim=-1)
        return neck @ functional.normalize(self.prototypes, dim=-1).T


def copied(top: Top) -> Top:
    """Gives a teacher that is the student as it is, and takes no gradient."""
    return copy.deepcopy(top).requires_grad_(requires_grad=False).eval()


@torch.no_grad()
def follow(teacher: Top, student: Top, momentum: float) -> None:
    """Moves the teacher's weights towards the student's."""
    for kept, now in zip(teacher.parameters(), student.parameters(), strict=True):
        kept.copy_(moved(kept, now, momentum))
