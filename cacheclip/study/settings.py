"""`--set name=value[,value...]`: which method a setting belongs to and what its values are."""

from collections.abc import Sequence
from math import inf, isfinite

from cacheclip.errors import InputError, UsageError, instead, near
from cacheclip.methods.base import Method, Value

Choices = dict[str, tuple[Value, ...]]


def parse(given: Sequence[str], methods: Sequence[type[Method]]) -> dict[str, Choices]:
    """The values given for each method's settings: method name -> setting -> values.

    A name that several of the methods have must be scoped, `clip-adapter.alpha=0.2`: what one
    method calls alpha is not what another calls alpha.

    Raises:
        UsageError: no `=`, no chosen method has the setting, or several have it.
        InputError: a value of the wrong kind.
    """
    choices: dict[str, Choices] = {method.name: {} for method in methods}
    for text in given:
        full_name, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(
                f"--set {text} gives no value", where="--set", fix="write --set name=value"
            )
        scope, _, name = full_name.rpartition(".")
        method = _owner(scope, name, text, methods)
        known = choices[method.name].get(name, ())
        more = (_value(method, name, v) for v in values.split(","))
        choices[method.name][name] = tuple(dict.fromkeys([*known, *more]))
    return choices


def _owner(scope: str, name: str, text: str, methods: Sequence[type[Method]]) -> type[Method]:
    if scope and scope not in [m.name for m in methods]:
        raise UsageError(
            f"--set {text} is for {scope!r}, which is not among the chosen methods",
            where="--set",
            fix=instead(
                scope,
                [f"{m.name}.{text.removeprefix(f'{scope}.')}" for m in methods if name in _known(m)]
                or [m.name for m in methods],
                option="--set ",
            ),
        )
    owners = [m for m in methods if name in _known(m) and scope in ("", m.name)]
    if not owners:
        asked = [m for m in methods if scope in ("", m.name)]
        raise UsageError(
            f"no chosen method has a setting {name!r}",
            where=f"--set, methods {', '.join(m.name for m in asked)}",
            fix=_near_settings(name, text, asked),
        )
    if len(owners) > 1:
        scoped = " ".join(f"--set {m.name}.{text}" for m in owners)
        raise UsageError(
            f"{len(owners)} chosen methods have a setting {name!r}", where="--set", fix=scoped
        )
    return owners[0]


def _known(method: type[Method]) -> list[str]:
    return [*method.defaults, *method.labels]


def _near_settings(name: str, text: str, methods: Sequence[type[Method]]) -> str:
    """What to write instead of a setting that none of the methods has."""
    close = near(name, list(dict.fromkeys(known for m in methods for known in _known(m))))[:3]
    value = text.partition("=")[2]
    scoped = [f"--set {m.name}.{own}={value}" for own in close for m in methods if own in _known(m)]
    meant = f"did you mean {' or '.join(scoped)}? " if scoped else ""
    return f"{meant}all of them: cacheclip methods {' '.join(m.name for m in methods)}"


def _value(method: type[Method], name: str, text: str) -> Value:
    words = method.labels.get(name) or method.words.get(name, ())
    if text in words:
        return text
    default = method.defaults[name] if name in method.defaults else words[0]
    if isinstance(default, str):
        raise InputError(
            f"{name} = {text!r} is none of its words",
            where=f"--set, method {method.name}",
            fix=instead(text, words, option=f"{name}="),
        )
    try:
        value = type(default)(text)
    except ValueError:
        wanted = "a whole number" if isinstance(default, int) else "a number"
        raise _wrong(method, name, text, " or ".join([f"is not {wanted}", *words])) from None
    low, high = method.bounds.get(name, (-inf, inf))
    if not isfinite(value) or not low <= value <= high:
        raise _wrong(method, name, text, f"is not a number from {low:g} to {high:g}")
    return value


def _wrong(method: type[Method], name: str, text: str, why: str) -> InputError:
    return InputError(
        f"{name} = {text!r} {why}",
        where=f"--set, method {method.name}",
        fix=f"a value such as {method.defaults.get(name) or method.labels[name][-1]}",
    )
