"""Arguments as people give them in Python, checked, and the request that they make."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from cacheclip.draws import ALL, Fewer, Shots
from cacheclip.errors import UsageError, quoted
from cacheclip.features import Features
from cacheclip.methods import names
from cacheclip.store.source import Source
from cacheclip.study.compare import Request
from cacheclip.study.settings import Given, is_several


def request_of(
    methods: Any,
    shots: Any,
    seeds: Any,
    settings: Given,
    *,
    select: str | Sequence[str] | None,
    recipe: str | None,
    draw: str | None,
    fewer: Any,
    max_memory: int | None,
) -> Request:
    """What is to run, as `cacheclip.fit` and `cacheclip.compare` say it.

    Args:
        methods: one name, or several.
        shots: one count, or several.
        seeds: a list of them, or N for 1 to N.
        settings: of methods.
        select: see `fit`, as the rest.
        recipe: see `fit`.
        draw: see `fit`.
        fewer: see `fit`.
        max_memory: see `fit`.

    Raises:
        UsageError: an argument is of the wrong kind.
    """
    if fewer not in get_args(Fewer):
        raise UsageError(
            f"fewer = {fewer!r} says nothing of classes with too few images",
            where="fewer",
            fix='fewer="keep" to take what they have, or fewer="error"',
        )
    if isinstance(select, str) and "," in select:
        listed = [name.strip() for name in select.split(",")]
        raise UsageError(
            f"select = {select!r} is no name of one policy",
            where="select",
            fix=f"cacheclip.compare(methods, data, select={quoted(listed)})  # which takes several",
        )
    return Request(
        methods=_methods(methods),
        shots=_shot_counts(shots),
        seeds=_seeds(seeds),
        settings=settings,
        select=select,
        recipe=recipe,
        draw=draw,
        fewer=fewer,
        max_memory=max_memory,
    )


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


def sources_of(test_on: Any) -> tuple[Source, ...]:
    """Where the features of one set lie, or of several.

    Raises:
        UsageError: something else was given.
    """
    given = test_on if is_several(test_on) else [test_on]
    return tuple(features_of(one).source for one in given)


def starts(init_seeds: Any) -> tuple[int, ...]:
    """The seeds of starts; None leaves them to the draws.

    Raises:
        UsageError: they are no seeds.
    """
    return () if init_seeds is None else _seeds(init_seeds)


def refuse_several(request: Request) -> None:
    """Refuse several methods or shot counts where there is one fit.

    Raises:
        UsageError: there are several.
    """
    methods, shots = quoted(request.methods), quoted(request.shots)
    for name, given in (("methods", request.methods), ("shot counts", request.shots)):
        if len(given) > 1:
            several = f"cacheclip.compare({methods}, data, shots={shots})"
            raise UsageError(
                f"{len(given)} {name}, {', '.join(map(str, given))}, and a fit has one",
                where="cacheclip.fit(method, data, shots=...)",
                fix=f"{several}  # which takes several",
            )


def refuse_keep(keep: Any, results: object) -> None:
    """Refuse to keep what is nothing, or where there is no folder to keep it in.

    Raises:
        UsageError: it is so.
    """
    if keep not in (None, "logits"):
        raise UsageError(f"keep = {keep!r} keeps nothing", where="keep", fix='keep="logits"')
    if keep and results is None:
        raise UsageError(
            "there is no folder to keep logits in", where="keep", fix='add results="FOLDER"'
        )


def no_choice(request: Request, data: Features) -> UsageError:
    """The error of candidates among which nothing chooses, as under `fixed`."""
    method, shots = quoted(request.methods[0]), quoted(request.shots[0])
    own: dict[str, Any] = {}
    for name, value in request.settings.items():
        own |= value if isinstance(value, Mapping) else {name: value}
    constants = "".join(f", {name}={quoted(x)}" for name, x in own.items() if not is_several(x))
    grid = {name: list(x) for name, x in own.items() if is_several(x)}
    text = ", text=text, logit_scale=logit_scale" if data.source.text else ""
    search = f"cacheclip.FewShotClassifier({method}{text}{constants})"
    fix = f"GridSearchCV({search}, {quoted(grid)}).fit(X, y)  # or one value each"
    if "test" in data.splits:
        each = "".join(f", {name}={quoted(x)}" for name, x in own.items())
        fix = (
            f"cacheclip.compare({method}, data, shots={shots}{each}, "
            f'select="fixed")  # a row each; or one value each; or GridSearchCV({search}, ...)'
        )
    return UsageError(
        f'several values of {", ".join(grid)}, and select="{request.select}" does not choose',
        where=f"data set {data.source.dataset} (has {', '.join(data.splits)})",
        fix=fix,
    )


def _methods(methods: Any) -> tuple[str, ...]:
    listed = tuple(methods) if is_several(methods) else (methods,)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise UsageError(
            f"{methods!r} are no names of methods",
            where="method, methods",
            fix=f'"tip-adapter", or a list of: {", ".join(names())}',
        )
    return listed


def _shot_counts(shots: Any) -> tuple[Shots, ...]:
    counts = list(shots) if is_several(shots) else [shots]
    if not counts or not all(one == ALL or _is_whole(one) for one in counts):
        raise UsageError(
            f"shots = {shots!r} is no number of images a class",
            where="shots",
            fix='shots=16, shots=[1, 4, 16], or shots="all"',
        )
    return tuple(ALL if one == ALL else int(one) for one in counts)


def _seeds(seeds: Any) -> tuple[int, ...]:
    listed = range(1, int(seeds) + 1) if _is_whole(seeds) else seeds
    if isinstance(listed, str) or not isinstance(listed, Sequence | np.ndarray) or not len(listed):
        raise _no_seeds(seeds)
    if not all(_is_whole(seed) and seed >= 0 for seed in listed):
        raise _no_seeds(seeds)
    return tuple(dict.fromkeys(int(seed) for seed in listed))


def _no_seeds(seeds: Any) -> UsageError:
    return UsageError(
        f"{seeds!r} are no seeds",
        where="seed, seeds",
        fix="a whole number from 0; seeds=3 for 1, 2, 3; or a list of them",
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
