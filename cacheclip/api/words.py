"""What is asked for in Python: values as the study takes them, and its errors in Python's words."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np

from cacheclip.draws import ALL, Fewer, Shots
from cacheclip.errors import CacheclipError, UsageError
from cacheclip.features import Features
from cacheclip.methods import names

Given = Mapping[str, Any]  # setting -> a value, or several; method -> its settings

# A command line to be typed into a shell stays as it is; an option is an argument here.
_SAID = re.compile(
    r"(?P<command>cacheclip [a-z][^;`]*)|--(?P<option>[a-z][a-z-]*)(?:[ =](?P<value>[\w.=,*+-]+))?"
)
_VALUES = {  # what may follow an option and be its value
    "shots": r"\d+(,\d+)*|all",
    "seeds": r"\d+",
    "seed": r"\d+",
    "select": r"fixed|few\S*-val|full-val|[a-z]+-[a-z]+",
    "fewer": r"keep|error",
    "draw": r"given|ranked|coop",
    "method": r"[a-z][a-z0-9-]*",
    "recipe": r"as-[a-z]+",
    "set": r"[\w.-]+=.+",
}


def asked(settings: Given) -> tuple[str, ...]:
    """Settings as a `Request` takes them, `name=value,value`.

    Args:
        settings: name -> a value or a list of candidates; the name of a method, in Python's
            spelling (`clip_adapter`), -> such settings of its own.

    Raises:
        UsageError: a value is no number and no word.
    """
    known = {name.replace("-", "_"): name for name in names()}
    made = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            scope = known.get(name, name)
            made += [f"{scope}.{own}={_written(own, x)}" for own, x in value.items()]
        else:
            made.append(f"{name}={_written(name, value)}")
    return tuple(made)


def _written(name: str, value: Any) -> str:
    values = list(value) if is_several(value) else [value]
    plain = [one.item() if isinstance(one, np.generic) else one for one in values]
    if not plain or not all(type(one) in (int, float, str) for one in plain):
        raise UsageError(
            f"{name} = {value!r} is no number, no word and no list of them",
            where="the settings",
            fix=f"{name}=VALUE, or {name}=[VALUE, VALUE] to choose from",
        )
    return ",".join(str(one) if isinstance(one, str) else repr(one) for one in plain)


def methods_of(methods: Any) -> tuple[str, ...]:
    """Names of methods: one, or several.

    Raises:
        UsageError: these are none.
    """
    listed = tuple(methods) if is_several(methods) else (methods,)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise UsageError(
            f"{methods!r} are no names of methods",
            where="method, methods",
            fix=f'"tip-adapter", or a list of: {", ".join(names())}',
        )
    return listed


def refuse_other_words(fewer: Any) -> None:
    """Refuse what is no word for classes with too few images.

    Raises:
        UsageError: it is none.
    """
    if fewer not in get_args(Fewer):
        raise UsageError(
            f"fewer = {fewer!r} says nothing of classes with too few images",
            where="fewer",
            fix='fewer="keep" to take what they have, or fewer="error"',
        )


def shot_counts(shots: Any) -> tuple[Shots, ...]:
    """Shot counts: a number or `all`, or several.

    Raises:
        UsageError: these are none.
    """
    counts = list(shots) if is_several(shots) else [shots]
    if not counts or not all(one == ALL or _is_whole(one) for one in counts):
        raise UsageError(
            f"shots = {shots!r} is no number of images a class",
            where="shots",
            fix='shots=16, shots=[1, 4, 16], or shots="all"',
        )
    return tuple(ALL if one == ALL else int(one) for one in counts)


def refuse_several(methods: Sequence[str], shots: Sequence[Shots]) -> None:
    """Refuse several methods or shot counts where there is one fit.

    Raises:
        UsageError: there are several.
    """
    for name, given in (("methods", methods), ("shot counts", shots)):
        if len(given) > 1:
            several = f"cacheclip.compare({quoted(methods)}, data, shots={quoted(shots)})"
            raise UsageError(
                f"{len(given)} {name}, {', '.join(map(str, given))}, and a fit has one",
                where="cacheclip.fit(method, data, shots=...)",
                fix=f"{several}  # which takes several",
            )


def no_choice(
    method: str, shots: Shots, data: Features, settings: Given, *, select: str | None
) -> UsageError:
    """The error of candidates among which nothing chooses: `fixed`, or no validation images."""
    why = f'select="{select}" does not choose'
    if select is None:
        lack = "too few classes have" if "val" in data.splits else "there are no"
        why = f"{lack} validation images to choose by"
    own = {name: x for name, x in settings.items() if not isinstance(x, Mapping)}
    own |= {name: x for x in settings.values() if isinstance(x, Mapping) for name, x in x.items()}
    constants = "".join(f", {name}={quoted(x)}" for name, x in own.items() if not is_several(x))
    grid = {name: list(x) for name, x in own.items() if is_several(x)}
    text = ", text=text, logit_scale=logit_scale" if data.source.text else ""
    search = f"cacheclip.FewShotClassifier({quoted(method)}{text}{constants})"
    fix = f"GridSearchCV({search}, {quoted(grid)}).fit(X, y)  # or one value each"
    if "test" in data.splits:
        each = "".join(f", {name}={quoted(x)}" for name, x in own.items())
        fix = (
            f"cacheclip.compare({quoted(method)}, data, shots={quoted(shots)}{each}, "
            f'select="fixed")  # a row each; or one value each; or GridSearchCV({search}, ...)'
        )
    return UsageError(
        f"several values of {', '.join(grid)}, and {why}",
        where=f"data set {data.source.dataset} (has {', '.join(data.splits)})",
        fix=fix,
    )


def is_several(value: Any) -> bool:
    """Whether these are several values, where one word is one."""
    return isinstance(value, Sequence | np.ndarray | range) and not isinstance(value, str)


def quoted(value: Any) -> str:
    """A value as it is written in Python."""
    return json.dumps(value, default=lambda x: x.item() if isinstance(x, np.generic) else list(x))


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """Seeds: a list of them, or N for 1 to N.

    Raises:
        UsageError: these are none.
    """
    listed = range(1, int(seeds) + 1) if _is_whole(seeds) else seeds
    if isinstance(listed, str) or not isinstance(listed, Sequence | np.ndarray) or not len(listed):
        raise _no_seeds(seeds)
    if not all(_is_whole(seed) and seed >= 0 for seed in listed):
        raise _no_seeds(seeds)
    return tuple(int(seed) for seed in listed)


def _no_seeds(seeds: Any) -> UsageError:
    return UsageError(
        f"{seeds!r} are no seeds",
        where="seed, seeds",
        fix="a whole number from 0; seeds=3 for 1, 2, 3; or a list of them",
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def features_of(data: Any) -> Features:
    """The features that somebody gave, if they are any.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(data, Features):
        return data
    named = f"cacheclip.load({data!r})" if isinstance(data, str) else 'cacheclip.load("birds")'
    raise UsageError(
        f"data is a {type(data).__name__}, where features are needed",
        where="data",
        fix=f"data = cacheclip.Features.of(X, y), or data = {named}",
    )


@contextmanager
def in_python(methods: Sequence[str]) -> Iterator[None]:
    """Let errors name arguments where they name options of the command line.

    Args:
        methods: those asked for; the settings of a single one need no name of it.
    """
    try:
        yield
    except CacheclipError as error:
        if len(methods) == 1:
            error.fix = error.fix.replace(f"--set {methods[0]}.", "--set ")
        error.what, error.where, error.fix = map(spoken, (error.what, error.where, error.fix))
        raise


def spoken(text: str) -> str:
    """A message whose options are arguments: `--select fixed` becomes `select="fixed"`."""
    return _SAID.sub(_argument, text)


def _argument(found: re.Match[str]) -> str:
    if found["command"]:
        return found[0]
    option, value = found["option"], found["value"] or ""
    name = "settings" if option == "set" else option.replace("-", "_")
    rest = found[0][len(option) + 2 :]
    trailing = value[len(value.rstrip(".,")) :]
    value = value.rstrip(".,")
    if not re.fullmatch(_VALUES.get(option, r"\d+"), value):
        return name + rest
    if option == "set":
        return _setting(value) + trailing
    several = value.split(",")
    plain = [one if one.isdecimal() else f'"{one}"' for one in several]
    return f"{name}={plain[0] if len(plain) == 1 else '[' + ', '.join(plain) + ']'}{trailing}"


def _setting(text: str) -> str:
    """`clip-adapter.alpha=0.2` as keyword arguments."""
    scoped, _, value = text.partition("=")
    method, _, name = scoped.rpartition(".")
    plain = value if re.fullmatch(r"[\d.,e+-]+", value) else f'"{value}"'
    plain = f"[{plain}]" if "," in plain else plain
    return f'{method.replace("-", "_")}={{"{name}": {plain}}}' if method else f"{name}={plain}"
