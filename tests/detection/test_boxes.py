"""Overlaps and suppression on boxes that can be counted by hand."""

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.boxes import Boxes, best_match, overlaps, standing

HERE = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [0, 0, 10, 5], [40, 40, 4, 4]])


def explicit(boxes: Boxes, scores: NDArray[np.float64], most: float) -> NDArray[np.bool_]:
    """The strongest stays, and takes all that overlap it with it; one class after the other."""
    stands = np.zeros(scores.shape, np.bool_)
    for c in range(scores.shape[1]):
        left = sorted(range(len(boxes)), key=lambda k, c=c: -scores[k, c])  # type: ignore[misc]
        while left:
            first, *rest = left
            stands[first, c] = True
            left = [k for k in rest if overlaps(boxes[[first]], boxes[[k]])[0, 0] <= most]
    return stands


def test_overlap_is_what_is_common_of_what_is_covered() -> None:
    wanted = [[1, 50 / 150, 50 / 100, 0], [50 / 150, 1, 25 / 125, 0]]
    np.testing.assert_allclose(overlaps(HERE[:2], HERE), wanted, atol=1e-12)


def test_the_best_match_is_the_largest_overlap() -> None:
    match, overlap = best_match(HERE[:2], HERE[1:3])
    assert match.tolist() == [1, 0]
    np.testing.assert_allclose(overlap, [0.5, 1], atol=1e-12)


def test_suppression_is_that_of_its_definition() -> None:
    random = np.random.default_rng(0)
    for most in (0.1, 0.4, 0.6):
        boxes = random.uniform([0, 0, 20, 20], [30, 30, 30, 30], (15, 4))
        scores = random.random((15, 3)).round(1)  # some are equal
        stands = standing(boxes, scores, most)
        assert 3 <= stands.sum() < 45
        assert np.array_equal(stands, explicit(boxes, scores, most))


def test_classes_leave_each_other_alone() -> None:
    twice = HERE[[0, 0]]
    stands = standing(twice, np.array([[0.5, 0.9], [0.9, 0.5]]), 0.5)
    assert stands.tolist() == [[False, True], [True, False]]


def test_moving_and_scaling_a_picture_changes_no_choice() -> None:
    random = np.random.default_rng(1)
    boxes = random.uniform([0, 0, 20, 20], [60, 60, 40, 40], (30, 4))
    scores = random.random((30, 2))
    stands = standing(boxes, scores, 0.5)
    assert 3 <= stands.sum() < 60
    assert np.array_equal(standing(boxes * 4 + [1000, 500, 0, 0], scores, 0.5), stands)
