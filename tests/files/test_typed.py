from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from cacheclip.files.typed import fits, wrong_field


@dataclass
class Record:
    share: Annotated[float | None, "doc", (0.0, 1.0)]
    pair: Annotated[list[float] | None, "doc", (0.0, 1.0)]
    named: Annotated[dict[str, float | int | str], "doc"]
    number: int = 1


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, int),
        (1, float),
        (1.5, float),
        ("a", int | str),
        (None, int | None),
        ([], list[str]),
        ([["a"]], list[list[str]]),
        ({"a": [1, "b"]}, dict[str, Any]),
        (True, bool),
        ("a", Literal["a", "b"]),
    ],
)
def test_what_is_of_its_type(value: Any, hint: Any) -> None:
    assert fits(value, hint)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1.0, int),
        (True, int),
        (False, float),
        (1, bool),
        ("1", int),
        (2**63, int),
        (10**400, float),
        (float("nan"), float),
        (float("inf"), float),
        (None, str),
        ({}, list[str]),
        ("ab", list[str]),
        ([1], list[str]),
        ([], dict[str, str]),
        ({"a": 1}, dict[str, str]),
        ("c", Literal["a", "b"]),
        ([], Literal["a", "b"]),
    ],
)
def test_what_is_not(value: Any, hint: Any) -> None:
    assert not fits(value, hint)


def test_the_first_field_that_is_wrong_is_named() -> None:
    good: dict[str, Any] = {"share": 0.5, "pair": [0.0, 1], "named": {"a": 7}, "another": object()}
    assert wrong_field(Record, good) is None
    for name, value in {"share": 7.5, "pair": [0.1, 2.0], "named": [1], "number": 1.5}.items():
        assert wrong_field(Record, good | {name: value}) == name
