"""Whether what JSON held is what the annotations of a dataclass say it is."""

from collections.abc import Mapping
from functools import cache
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 2**63  # no whole number of ours is as large

Range = tuple[float, float]


def wrong_field(record: type, content: Mapping[str, Any]) -> str | None:
    """The first field whose value is not of its type; None where all of them are.

    Numbers are finite, and where a field is `Annotated[..., doc, (low, high)]` within these bounds.

    Args:
        record: a dataclass; fields that `content` lacks are not looked at.
        content: what JSON gave.
    """
    hints = _hints(record)
    return next((n for n, x in content.items() if n in hints and not fits(x, hints[n])), None)


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record, include_extras=True)


def fits(value: Any, hint: Any, bounds: Range = (-inf, inf)) -> bool:
    """Whether a value of JSON is of a type, as annotations write it."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return fits(value, inner[0], next((x for x in inner[1:] if isinstance(x, tuple)), bounds))
    if kind in (Union, UnionType):
        return any(fits(value, option, bounds) for option in inner)
    if kind is list:
        return isinstance(value, list) and all(fits(x, inner[0], bounds) for x in value)
    if kind is dict:
        whole = isinstance(value, dict) and all(isinstance(name, str) for name in value)
        return whole and all(fits(x, inner[1], bounds) for x in value.values())
    if kind is Literal:
        return value in inner
    if hint is Any:
        return True
    if hint in (None, NoneType):
        return value is None
    if hint in (int, float):
        return _number(value, hint) and bounds[0] <= value <= bounds[1]
    return type(value) is hint


def _number(value: Any, kind: type) -> bool:
    if type(value) is int:
        return abs(value) < LARGEST
    return kind is float and type(value) is float and isfinite(value)
