"""Fusion, detections and pseudo-labels: identities, thresholds and what is left alone."""

from dataclasses import replace

import numpy as np
import pytest

from cacheclip.detection.boxes import overlaps
from cacheclip.detection.precision import MOST
from cacheclip.detection.pseudo import Rule, pseudo_labels
from cacheclip.detection.scenes import NOTHING, THING, UNKNOWN, Matched, matched
from cacheclip.detection.score import Fusion, detections
from tests.detection.toys import NOVEL, C, scenes

HERE = scenes(1)
R = len(HERE.proposals.boxes)


def chances(seed: int = 0) -> np.ndarray:
    p = np.random.default_rng(seed).dirichlet(np.full(C, 0.2), R)
    return p.astype(np.float64)


def test_fusion_is_the_geometric_mean_between_its_ends() -> None:
    o, p = np.array([0.25, 1.0]), np.array([[1.0, 0.49], [0.0, 0.5]])
    np.testing.assert_allclose(Fusion(0.5).scores(o, p), np.sqrt(o[:, None] * p))
    np.testing.assert_allclose(Fusion(1.0).scores(o, p), p)
    np.testing.assert_allclose(Fusion(0.0).scores(o, p), np.array([[0.25, 0.25], [1.0, 1.0]]))


def test_a_detection_is_a_proposal_with_its_score() -> None:
    p, fusion = chances(), Fusion()
    found = detections(HERE, p, fusion)
    own = fusion.scores(HERE.proposals.scores, p)
    for image, box, label, score in zip(
        found.image, found.boxes, found.labels, found.scores, strict=True
    ):
        here = HERE.by_picture[int(image)]
        rows = np.flatnonzero((HERE.proposals.boxes[here] == box.astype(np.float32)).all(1))
        assert score in own[here][rows, label]


def test_pictures_know_nothing_of_each_other() -> None:
    """Two pictures alone give what they give among eight, and none gives more than counts."""
    p = chances()
    every = detections(HERE, p, Fusion())
    few = replace(HERE, proposals=replace(HERE.proposals, offsets=HERE.proposals.offsets[:3]))
    own = detections(few, p, Fusion())
    assert np.array_equal(own.scores, every.scores[every.image < 2])
    assert np.bincount(every.image).max() <= MOST


def test_proposals_are_what_they_overlap() -> None:
    known = matched(HERE)
    truth = HERE.opened()
    for row in range(R):
        own = truth.image == HERE.pictures[row]
        own &= ~NOVEL[truth.labels]
        best, label = 0.0, UNKNOWN
        for k in np.flatnonzero(own):
            one, other = HERE.proposals.boxes[row].astype(float), truth.boxes[k].astype(float)
            sides = [
                max(0.0, min(one[d] + one[d + 2], other[d] + other[d + 2]) - max(one[d], other[d]))
                for d in (0, 1)
            ]
            common = sides[0] * sides[1]
            share = common / (one[2] * one[3] + other[2] * other[3] - common)
            if share > best:
                best, label = share, int(truth.labels[k])
        assert known.labels[row] == (label if best >= THING else UNKNOWN)
        assert known.nothing[row] == (best < NOTHING)


def test_boxes_of_novel_classes_are_nobodys() -> None:
    assert set(matched(HERE).labels.tolist()) == {UNKNOWN, 0, 1, 2}


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.1])
def test_what_is_believed_is_novel_sure_and_unexplained(threshold: float) -> None:
    p, known = chances(), matched(HERE)
    rows, labels = pseudo_labels(HERE, p, known, Rule(threshold), Fusion())
    assert np.array_equal(labels, p[rows].argmax(1))
    assert NOVEL[labels].all()
    assert (p[rows].max(1) >= threshold).all()
    assert known.nothing[rows].all()
    assert (len(rows) == 0) == (threshold > 1)


def test_a_higher_threshold_believes_less_and_most_counts_by_class() -> None:
    p, known = chances(), matched(HERE)
    many, _ = pseudo_labels(HERE, p, known, Rule(0.4), Fusion())
    few, _ = pseudo_labels(HERE, p, known, Rule(0.9), Fusion())
    assert set(few.tolist()) < set(many.tolist())
    rows, labels = pseudo_labels(HERE, p, known, Rule(0.4, most=2), Fusion())
    assert set(rows.tolist()) < set(many.tolist())
    assert np.bincount(labels, minlength=C).tolist() == [0, 0, 0, 2, 2]
    best = Fusion().scores(HERE.proposals.scores, p)
    for label in (3, 4):
        left = [k for k in many if k not in rows and p[k].argmax() == label]
        own = rows[labels == label]
        assert best[own, label].min() >= max(best[left, label], default=0)


def test_of_one_thing_one_proposal_is_believed() -> None:
    """All proposals alike: those of a picture that overlap far are one pseudo-label."""
    p = np.tile([0.0, 0, 0, 1, 0], (R, 1))
    none = Matched(np.full(R, UNKNOWN), np.ones(R, np.bool_))
    rows, _ = pseudo_labels(HERE, p, none, Rule(0.5), Fusion())
    assert 0 < len(rows) < R
    for own in HERE.by_picture:
        here = rows[(rows >= own.start) & (rows < own.stop)]
        apart = overlaps(HERE.proposals.boxes[here], HERE.proposals.boxes[here])
        assert (apart[~np.eye(len(here), dtype=bool)] <= Fusion().overlap).all()


def test_believed_proposals_are_things_and_no_longer_nothing() -> None:
    known = matched(HERE)
    row = np.flatnonzero(known.nothing)[:2]
    more = known.beside(row, np.array([3, 4]))
    assert more.labels[row].tolist() == [3, 4]
    assert not more.nothing[row].any()
    assert known.nothing[row].all()  # the former is as it was
