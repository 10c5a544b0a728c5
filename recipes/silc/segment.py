"""Segments composed pictures with the names of the classes alone, from the image tower's places.

Each place's feature is held against the classes' texts, the scores are enlarged to the pixels, and
a pixel takes the best class. Two measures: on the pixels of the things (`given`), and on the whole
picture (`whole`), where a pixel is ground if no class reaches a share that scenes of the
validation drawings chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip import CustomTextCLIP
from torch import Tensor
from torch.nn import functional

from recipes.nano.views import to_input
from recipes.silc.scenes import BACKGROUND, SIDE, Scene

SHARES = np.linspace(0.05, 0.95, 19)
BATCH = 8


@dataclass(frozen=True)
class Overlap:
    """Mean intersection over union, as fractions.

    Attributes:
        given: Over the classes, on the pixels of things.
        whole: Over the classes and the ground, on all pixels.
    """

    given: float
    whole: float


def places(model: CustomTextCLIP, x: Tensor) -> Tensor:
    """Gives the feature of each place in the space of the texts, [n, h, w, 256] unit.

    Args:
        model: nano's shape.
        x: [n, 3, H, W] as `to_input` gives them, of any size.
    """
    x = model.visual.trunk.forward_features(x.contiguous(memory_format=torch.channels_last))
    return functional.normalize(model.visual.head.proj(x.permute(0, 2, 3, 1)), dim=-1)


@torch.no_grad()
def scores(model: CustomTextCLIP, texts: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Gives [n, classes, SIDE, SIDE] of shares: the classes' softmax at each pixel."""
    parts = []
    for first in range(0, len(scenes), BATCH):
        batch = [scene.pixels for scene in scenes[first : first + BATCH]]
        logits = model.logit_scale.exp() * places(model, to_input(np.stack(batch))) @ texts.T
        size = (SIDE, SIDE)
        large = functional.interpolate(logits.permute(0, 3, 1, 2), size, mode="bilinear")
        parts.append(large.softmax(dim=1))
    return torch.cat(parts)


def mean_iou(said: np.ndarray, true: np.ndarray, n_classes: int) -> float:
    """Gives the mean over classes of intersection over union; classes of neither are left out.

    Args:
        said: [m] class numbers.
        true: [m], the same of the truth.
        n_classes: How many classes there are.
    """
    pairs = np.bincount(true * n_classes + said, minlength=n_classes**2)
    table = pairs.reshape(n_classes, n_classes)
    both = table.diagonal()
    either = table.sum(axis=0) + table.sum(axis=1) - both
    return float((both[either > 0] / either[either > 0]).mean())


def truth(scenes: Sequence[Scene]) -> np.ndarray:
    """Gives [n SIDE SIDE] classes, `BACKGROUND` among them."""
    return np.concatenate([scene.labels.ravel() for scene in scenes])


def whole(shares: Tensor, true: np.ndarray, least: float) -> float:
    """Gives the overlap on all pixels, where one below the share `least` is ground."""
    best, said = (values.numpy().ravel() for values in shares.max(dim=1))
    n_classes = shares.shape[1]
    ground = np.where(best < least, n_classes, said)
    return mean_iou(ground, np.where(true == BACKGROUND, n_classes, true), n_classes + 1)


def least_share(shares: Tensor, true: np.ndarray) -> float:
    """Gives the share below which a pixel is ground, the best on these scenes."""
    return float(max(SHARES, key=lambda least: whole(shares, true, least)))


def overlap(shares: Tensor, true: np.ndarray, least: float) -> Overlap:
    """Gives both measures of a seed's scenes."""
    said, things = shares.argmax(dim=1).numpy().ravel(), true != BACKGROUND
    given = mean_iou(said[things], true[things], shares.shape[1])
    return Overlap(given, whole(shares, true, least))
