"""Whether what JSON held is what the annotations of a dataclass say it is."""

from collections.abc import Callable, Mapping
from functools import cache
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 2**63  # no whole number of ours is as large

Range = tuple[float, float]
Check = Callable[[Any], bool]


def wrong_field(record: type, content: Mapping[str, Any]) -> str | None:
    """The first field whose value is not of its type; None where all of them are.

    Numbers are finite, and where a field is `Annotated[..., doc, (low, high)]` within these bounds.

    Args:
        record: a dataclass; fields that `content` lacks are not looked at.
        content: what JSON gave.
    """
    checks = _checks(record)
    return next((n for n, x in content.items() if n in checks and not checks[n](x)), None)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type, as annotations write it."""
    return _check(hint)(value)


@cache
def _checks(record: type) -> dict[str, Check]:
    hints = get_type_hints(record, include_extras=True)
    return {name: _check(hint) for name, hint in hints.items()}


def _check(hint: Any, bounds: Range = (-inf, inf)) -> Check:
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _check(inner[0], next((x for x in inner[1:] if isinstance(x, tuple)), bounds))
    if kind in (Union, UnionType):
        options = [_check(option, bounds) for option in inner]
        return lambda value: any(option(value) for option in options)
    if kind is Literal:
        return lambda value: value in inner
    if kind is list:
        entry = _check(inner[0], bounds)
        return lambda value: isinstance(value, list) and all(map(entry, value))
    if kind is dict:
        entry = _check(inner[1], bounds)
        return lambda value: isinstance(value, dict) and all(map(entry, value.values()))
    if hint is Any:
        return lambda value: True
    if hint in (None, NoneType):
        return lambda value: value is None
    if hint in (int, float):
        return lambda value: _is_number(value, hint) and bounds[0] <= value <= bounds[1]
    return lambda value: type(value) is hint


def _is_number(value: Any, kind: type) -> bool:
    if type(value) is int:
        return abs(value) < LARGEST
    return kind is float and type(value) is float and isfinite(value)
