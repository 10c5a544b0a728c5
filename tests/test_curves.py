from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cacheclip import curves

POINTS: list[dict[str, Any]] = [
    {"hparams": {"alpha": 1, "beta": 5.5, "how": "a"}, "top1_val": 2 / 7, "nll_val": 1.234567},
    {"hparams": {"alpha": 1.0, "beta": 5.5}, "top1_val": None, "nll_val": None},
    {"hparams": {"alpha": 0.1, "beta": 5.5, "views": 4}, "top1_val": 1.0, "nll_val": None},
    {"hparams": {"alpha": "search", "beta": 5.5}, "top1_val": 0.0, "nll_val": 20.000001},
]


def test_points_come_back_with_their_types_and_to_the_last_digit() -> None:
    found = curves.points(curves.columns(POINTS, 7))
    assert found == POINTS
    assert [type(point["hparams"]["alpha"]) for point in found] == [int, float, float, str]


def test_settings_that_do_not_vary_take_no_column() -> None:
    held = curves.columns(POINTS, 7)
    assert held["codes"].shape == (4, 3)
    alone = curves.columns(POINTS[:1], 7)
    assert alone["codes"].shape == (1, 0)
    assert curves.points(alone) == POINTS[:1]


def test_a_search_of_a_thousand_points_takes_less_than_20_bytes_a_point() -> None:
    grid = [(a, b) for a in range(50) for b in range(20)]
    many: list[dict[str, Any]] = [
        {"hparams": {"alpha": a / 7, "beta": b / 3, "epochs": 20}, "top1_val": 0.5, "nll_val": 0.1}
        for a, b in grid
    ]
    held = curves.columns(many, 2)
    assert sum(x.nbytes for x in held.values()) < 20 * len(many)
    assert curves.points(held) == many


WRONG: dict[str, NDArray[Any]] = {
    "nll": np.zeros(3),
    "codes": np.full((4, 3), 9, np.uint16),
    "settings": np.frombuffer(b"[1]", np.uint8),
    "n": np.array(0),
}


@pytest.mark.parametrize("name", WRONG)
def test_columns_that_do_not_belong_together_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"length|value|pictures"):
        curves.points(curves.columns(POINTS, 7) | {name: WRONG[name]})
