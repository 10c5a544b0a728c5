"""From probabilities of proposals to detections."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.boxes import standing
from cacheclip.detection.precision import MOST, Found
from cacheclip.detection.scenes import Scenes

FAINTEST = 1e-4  # a score below which nothing is a detection


@dataclass(frozen=True)
class Fusion:
    """How proposals become detections.

    Attributes:
        weight: of the class in the score o^(1 - weight) p^weight; at one half, the geometric mean
            of objectness o and probability p (as in 2209.15639), at one the class alone.
        overlap: beyond which the weaker of two boxes of a class goes.
    """

    weight: float = 0.5
    overlap: float = 0.5

    def scores(
        self, objectness: NDArray[np.floating], p: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """[n, C] of objectness [n] and class probabilities [n, C]."""
        o = np.asarray(objectness, np.float64)[:, None]
        fused: NDArray[np.float64] = (
            o ** (1 - self.weight) * np.asarray(p, np.float64) ** self.weight
        )
        return fused


def detections(scenes: Scenes, p: NDArray[np.floating], fusion: Fusion) -> Found:
    """Every proposal as every class, the strongest of each class and picture.

    Args:
        scenes: with R proposals.
        p: [R, C] class probabilities.
        fusion: how they become scores, and which boxes stand.
    """
    proposals = scenes.proposals
    scores = fusion.scores(proposals.scores, p)
    parts = [
        _of_picture(proposals.boxes[own], scores[own], picture, fusion.overlap)
        for picture, own in enumerate(scenes.by_picture)
    ]
    return Found.cat(parts)


def _of_picture(
    boxes: NDArray[np.floating], scores: NDArray[np.float64], picture: int, overlap: float
) -> Found:
    """The detections of one picture: boxes [r, 4] with scores [r, C]."""
    row, label = np.nonzero(standing(boxes, scores, overlap) & (scores >= FAINTEST))
    first = np.argsort(-scores[row, label], kind="stable")[:MOST]
    row, label = row[first], label[first]
    here = np.full(len(row), picture)
    return Found(here, np.asarray(boxes[row], np.float64), label, scores[row, label])
