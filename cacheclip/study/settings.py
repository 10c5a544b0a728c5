"""`--set name=value[,value...]`: which method a setting belongs to and what its values are."""

from collections.abc import Sequence

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
                [f"{m.name}.{text.removeprefix(f'{scope}.')}" for m in methods if name in m.table]
                or [m.name for m in methods],
                option="--set ",
            ),
        )
    owners = [m for m in methods if name in m.table and scope in ("", m.name)]
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


def _near_settings(name: str, text: str, methods: Sequence[type[Method]]) -> str:
    """What to write instead of a setting that none of the methods has."""
    close = near(name, list(dict.fromkeys(known for m in methods for known in m.table)))[:3]
    value = text.partition("=")[2]
    scoped = [f"--set {m.name}.{own}={value}" for own in close for m in methods if own in m.table]
    meant = f"did you mean {' or '.join(scoped)}? " if scoped else ""
    return f"{meant}all of them: cacheclip methods {' '.join(m.name for m in methods)}"


def _value(method: type[Method], name: str, text: str) -> Value:
    own = method.table[name]
    if text in own.words:
        return text
    if isinstance(own.default, str):
        raise InputError(
            f"{name} = {text!r} is none of its words",
            where=f"--set, method {method.name}",
            fix=instead(text, own.words, option=f"{name}="),
        )
    try:
        value = type(own.default)(text)
    except ValueError:
        wanted = "a whole number" if isinstance(own.default, int) else "a number"
        raise _wrong(method, name, text, " or ".join([f"is not {wanted}", *own.words])) from None
    if not own.allows(value):
        raise _wrong(method, name, text, f"is not a number from {own.low:g} to {own.high:g}")
    return value


def _wrong(method: type[Method], name: str, text: str, why: str) -> InputError:
    return InputError(
        f"{name} = {text!r} {why}",
        where=f"--set, method {method.name}",
        fix=f"a value such as {method.table[name].default}",
    )
