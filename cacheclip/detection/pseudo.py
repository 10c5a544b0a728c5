"""Pseudo-labels: proposals that a head is sure of become pictures to learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.boxes import standing
from cacheclip.detection.scenes import Matched, Scenes
from cacheclip.detection.score import Fusion


@dataclass(frozen=True)
class Rule:
    """Which proposals are believed.

    Attributes:
        threshold: least probability of the class.
        most: of each class, those with the best scores; None for all.
    """

    threshold: float = 0.5
    most: int | None = None


def pseudo_labels(
    scenes: Scenes,
    p: NDArray[np.floating],
    known: Matched,
    rule: Rule,
    fusion: Fusion,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The proposals that are taken for things of novel classes: rows, and their labels.

    A proposal that no annotation explains is taken for the class that it most likely is, if that is
    novel and likely enough; of those of one class that overlap in one picture, the best scored
    stays.

    Args:
        scenes: with R proposals.
        p: [R, C] class probabilities.
        known: what annotations explain.
        rule: how sure is sure.
        fusion: of objectness and probability; and the overlap that is too much.
    """
    proposals = scenes.proposals
    label, likely = p.argmax(1), p.max(1)
    sure = (likely >= rule.threshold) & proposals.novel[label] & known.nothing
    scores = np.zeros(p.shape)
    rows = np.flatnonzero(sure)
    scores[rows, label[rows]] = fusion.scores(proposals.scores[rows], likely[rows, None])[:, 0]
    kept = sure.copy()
    for own in scenes.by_picture:
        stands = standing(proposals.boxes[own], scores[own], fusion.overlap)
        kept[own] &= stands[np.arange(len(stands)), label[own]]
    chosen = np.flatnonzero(kept)
    chosen = chosen[np.argsort(-scores[chosen, label[chosen]], kind="stable")]
    chosen = chosen[_first(label[chosen], rule.most)]
    return chosen, label[chosen]


def _first(labels: NDArray[np.int64], most: int | None) -> NDArray[np.bool_]:
    """Which of some labels are among the first `most` of their kind."""
    if most is None:
        return np.ones(len(labels), np.bool_)
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        place[own] = np.arange(len(own))
    return place < most
