"""Average precision against cases that are counted by hand."""

import sys

import numpy as np
import pytest

from cacheclip.detection.precision import Found, average_precision
from cacheclip.errors import MachineError
from cacheclip.store.regions import Annotations

BOX = np.array([10.0, 10, 20, 20])


def there(*things: tuple[int, int], crowd: bool = False) -> Annotations:
    """One box a picture, of a class: (picture, class)."""
    n = len(things)
    image, labels = (np.array([own[k] for own in things], np.int64) for k in (0, 1))
    boxes = np.tile(BOX.astype(np.float32), (n, 1))
    return Annotations(image, boxes, labels, np.full(n, crowd), np.arange(n) + 1)


def found(*things: tuple[int, int, float, float]) -> Found:
    """(picture, class, score, how far the box has moved to the right)."""
    boxes = np.array([BOX + np.array([own[3], 0, 0, 0]) for own in things]).reshape(-1, 4)
    image, labels = (np.array([own[k] for own in things], np.int64) for k in (0, 1))
    return Found(image, boxes, labels, np.array([own[2] for own in things]))


def test_what_is_found_where_it_is_has_precision_one() -> None:
    own = average_precision(there((0, 0), (1, 1)), found((0, 0, 0.5, 0), (1, 1, 0.1, 0)), 2, 3)
    np.testing.assert_allclose(own.ap50, [1, 1, np.nan])
    np.testing.assert_allclose(own.ap, [1, 1, np.nan])


def test_a_stronger_wrong_one_halves_it() -> None:
    """Precision is 1/2 at every recall: of two detections the second is right."""
    own = average_precision(there((0, 0)), found((0, 0, 0.9, 50), (0, 0, 0.5, 0)), 1, 1)
    np.testing.assert_allclose(own.ap50, [0.5])


def test_a_weaker_wrong_one_costs_nothing_and_a_missing_one_its_share() -> None:
    own = average_precision(there((0, 0), (1, 0)), found((0, 0, 0.9, 0), (0, 0, 0.5, 50)), 2, 1)
    np.testing.assert_allclose(own.ap50, [51 / 101])  # recalls 0, 0.01, ..., 0.5 of COCO's 101


def test_a_box_that_moved_counts_up_to_its_overlap() -> None:
    """Moved by 5 of 20, it overlaps by 15 / 25 = 0.6: right at 0.5, 0.55 and 0.6 of ten."""
    own = average_precision(there((0, 0)), found((0, 0, 0.9, 5)), 1, 1)
    np.testing.assert_allclose([own.ap50[0], own.ap[0]], [1, 0.3])


def test_the_wrong_class_finds_nothing() -> None:
    own = average_precision(there((0, 0)), found((0, 1, 0.9, 0)), 1, 2)
    np.testing.assert_allclose(own.ap50, [0, np.nan])


def test_nothing_found_is_zero_and_not_unknown() -> None:
    own = average_precision(there((0, 0)), found(), 1, 2)
    np.testing.assert_allclose(own.ap50, [0, np.nan])


def test_a_crowd_makes_no_detection_wrong() -> None:
    some, many = there((0, 0)), there((1, 0), crowd=True)
    both = Annotations(
        image=np.concatenate([some.image, many.image]),
        boxes=np.concatenate([some.boxes, many.boxes]),
        labels=np.zeros(2, np.int64),
        crowd=np.array([False, True]),
        ids=np.arange(2) + 1,
    )
    own = average_precision(both, found((1, 0, 0.9, 0), (0, 0, 0.5, 0)), 2, 1)
    np.testing.assert_allclose(own.ap50, [1])


def test_without_pycocotools_the_fix_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MachineError, match="needs pycocotools") as error:
        average_precision(there((0, 0)), found((0, 0, 0.9, 0)), 1, 1)
    assert error.value.fix == "pip install 'cacheclip[regions]'"
