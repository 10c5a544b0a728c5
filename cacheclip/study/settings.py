"""The settings that were asked for: which method each belongs to, and what its values are."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from cacheclip.errors import InputError, UsageError, brief, is_in_python, near, quoted, some
from cacheclip.methods.base import Method, Reads, Value, get, names

SHOWN = 3  # methods for which a setting is spelled out, where it has to be said whose it is

Given = Mapping[str, Any]  # setting -> a value or several; method -> such settings of its own
Choices = dict[str, tuple[Value, ...]]


def choices(given: Given, methods: Sequence[type[Method]]) -> dict[str, Choices]:
    """The values given for each method's settings: method name -> setting -> values.

    A name that several of the methods have must stand under a method's: what one method calls
    alpha is not what another calls alpha.

    Args:
        given: setting -> a number, a word or several of them to choose from; or method, which may
            be spelled as Python spells names (`clip_adapter`), -> such settings of its own.
        methods: those chosen.

    Raises:
        UsageError: no chosen method has the setting, several have it, or its value is no number
            and no word.
        InputError: a value of the wrong kind.
    """
    made: dict[str, Choices] = {method.name: {} for method in methods}
    for scope, name, values in _scoped(given):
        method = _owner(scope, name, values, methods)
        known = made[method.name].get(name, ())
        more = (_value(method, name, value) for value in values)
        made[method.name][name] = tuple(dict.fromkeys([*known, *more]))
    return made


def written(given: Given) -> list[str]:
    """Settings that were given as their reader writes them, one an option or an argument."""
    if is_in_python():
        return [f"{name.replace('-', '_')}={quoted(value)}" for name, value in given.items()]
    return [_written(name, values, scope) for scope, name, values in _scoped(given)]


def is_several(value: Any) -> bool:
    """Whether these are several values, where one word is one."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _scoped(given: Given) -> Iterator[tuple[str, str, list[Value]]]:
    """Method or nothing, setting, and its values."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            scope = name.replace("_", "-")
            yield from ((scope, own, _values(own, x)) for own, x in value.items())
        else:
            yield "", name, _values(name, value)


def _values(name: str, value: Any) -> list[Value]:
    several = value.ravel() if isinstance(value, np.ndarray) else value
    values: list[Any] = list(several) if is_several(value) else [value]
    plain = [one.item() if isinstance(one, np.generic) else one for one in values]
    if not plain or not all(type(one) in (int, float, str) for one in plain):
        raise UsageError(
            f"{name} = {brief(value)} is no number, no word and no list of them",
            where="the settings",
            fix=f"{name}=VALUE, or {name}=[VALUE, VALUE] to choose from",
        )
    return plain


def _owner(
    scope: str, name: str, values: Sequence[Value], methods: Sequence[type[Method]]
) -> type[Method]:
    if scope and scope not in [m.name for m in methods]:
        having = [m for m in methods if name in m.table]
        close = near(scope, [m.name for m in having])[:1] or [m.name for m in having]
        meant = " or ".join(_written(name, values, one) for one in close)
        raise UsageError(
            f"{name} is given for {scope!r}, which is not among the chosen methods",
            where=_where([]),
            fix=f"did you mean {meant}?" if meant else f"choose {scope}, or leave {name} out",
        )
    asked = [m for m in methods if scope in ("", m.name)]
    owners = [m for m in asked if name in m.table]
    if not owners:
        raise UsageError(
            f"no chosen method has a setting {name!r}",
            where=_where(asked),
            fix=_near_settings(name, values, asked, alone=len(methods) == 1),
        )
    if len(owners) > 1:
        scoped = [_written(name, values, m.name) for m in owners[:SHOWN]]
        more = ", and so for each that it is meant for" if owners[SHOWN:] else ""
        raise UsageError(
            f"{len(owners)} chosen methods have a setting {name!r}",
            where=_where(owners),
            fix=(", " if is_in_python() else " ").join(scoped) + more,
        )
    return owners[0]


def _near_settings(
    name: str, values: Sequence[Value], methods: Sequence[type[Method]], *, alone: bool
) -> str:
    """What to write instead of a setting that none of the methods has."""
    close = near(name, list(dict.fromkeys(known for m in methods for known in m.table)))[:3]
    scoped = [
        _written(own, values, "" if alone else m.name)
        for own in close
        for m in methods
        if own in m.table
    ]
    having = [other for other in names() if name in get(other).table]
    meant = f"did you mean {' or '.join(scoped)}? " if scoped else ""
    meant += f"{some(having)} {'has' if len(having) == 1 else 'have'} it; " if having else ""
    return f"{meant}all of them: cacheclip methods {' '.join(m.name for m in methods)}"


def _where(methods: Sequence[type[Method]]) -> str:
    """Where settings of these methods were given."""
    named = ", ".join(method.name for method in methods)
    if is_in_python():
        return f"the settings of {named}" if named else "the settings"
    return f"--set, method{'s' * (len(methods) > 1)} {named}" if named else "--set"


def _written(name: str, values: Sequence[Value], method: str = "") -> str:
    """A setting as its reader writes it; under a method's name, where one is given."""
    if is_in_python():
        value = quoted(values[0] if len(values) == 1 else values)
        return f'{method.replace("-", "_")}={{"{name}": {value}}}' if method else f"{name}={value}"
    scoped = f"{method}.{name}" if method else name
    return "--set " + shlex.quote(f"{scoped}={','.join(map(str, values))}")


def _value(method: type[Method], name: str, given: Value) -> Value:
    own = method.table[name]
    if isinstance(given, str) and given in own.words:
        return given
    if isinstance(own.default, str):
        close = " or ".join(_written(name, [word]) for word in near(str(given), own.words)[:3])
        raise InputError(
            f"{name} = {given!r} is none of its words",
            where=_where([method]),
            fix=(f"did you mean {close}? " if close else "")
            + f"{name} is one of {', '.join(own.words)}",
        )
    if isinstance(given, str) or (isinstance(own.default, int) and isinstance(given, float)):
        wanted = "a whole number" if isinstance(own.default, int) else "a number"
        raise _wrong(method, name, given, " or ".join([f"is not {wanted}", *own.words]))
    try:
        value = type(own.default)(given)  # a whole number may stand for any other
    except OverflowError:
        value = inf
    if not own.allows(value):
        raise _wrong(method, name, given, f"is not a number from {own.low:g} to {own.high:g}")
    return value


def _wrong(method: type[Method], name: str, given: Value, why: str) -> InputError:
    return InputError(
        f"{name} = {given!r} {why}",
        where=_where([method]),
        fix=f"a value such as {method.table[name].default}",
    )


def reads_under(method: type[Method], given: Choices) -> list[Reads]:
    """What the method may read under the settings that are given."""
    asked = [{name: value} for name, values in given.items() for value in values]
    return list(dict.fromkeys(method.of(settings).reads for settings in asked or [{}]))
