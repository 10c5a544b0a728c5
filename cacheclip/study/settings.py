"""`--set name=value[,value...]`: which method a setting belongs to and what its values are."""

from collections.abc import Sequence
from math import inf, isfinite

from cacheclip.errors import InputError, UsageError
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
            fix=f"scope it to one of {', '.join(m.name for m in methods)}",
        )
    owners = [m for m in methods if name in _known(m) and scope in ("", m.name)]
    if not owners:
        known = "; ".join(f"{m.name}: {', '.join(_known(m)) or 'none'}" for m in methods)
        raise UsageError(f"no chosen method has a setting {name!r}", where="--set", fix=known)
    if len(owners) > 1:
        scoped = " ".join(f"--set {m.name}.{text}" for m in owners)
        raise UsageError(
            f"{len(owners)} chosen methods have a setting {name!r}", where="--set", fix=scoped
        )
    return owners[0]


def _known(method: type[Method]) -> list[str]:
    return [*method.defaults, *method.labels]


def _value(method: type[Method], name: str, text: str) -> Value:
    words = method.labels.get(name) or method.words.get(name, ())
    if text in words:
        return text
    default = method.defaults[name] if name in method.defaults else words[0]
    if isinstance(default, str):
        raise _wrong(method, name, text, f"is not one of {', '.join(words)}")
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
