"""Which methods a feature set has all for, and why the others do not run on it."""

from collections.abc import Mapping, Sequence

from cacheclip.draws import Fewer, Shots
from cacheclip.errors import CacheclipError, StoreError, UsageError, argument, some
from cacheclip.methods import base as methods
from cacheclip.methods.base import Method
from cacheclip.store.not_extracted import all_of
from cacheclip.study.data import SetData
from cacheclip.study.settings import Choices, reads_under
from cacheclip.study.targets import Target


def untestable(data: SetData) -> StoreError:
    """The error of a set without test pictures."""
    features, none = data.features, "test" not in data.labelled_splits
    what = "there is no test split" if none else "no test picture could be encoded"
    return StoreError(
        f"{what}, so nothing can be tested",
        where=f"data set {features.dataset}, encoder {features.name}",
        fix=features.extract_command,
    )


def able(
    chosen: Sequence[type[Method]],
    asked: Sequence[str],
    given: Mapping[str, Choices],
    data: SetData,
    targets: Sequence[Target] = (),
) -> tuple[list[type[Method]], list[str]]:
    """The methods that run, and why each other one does not.

    Args:
        chosen: those asked for and those beside them.
        asked: names of the former.
        given: method -> the settings that were given.
        data: what is learned from.
        targets: what is tested on beside it.

    Raises:
        StoreError: the features are there for none of those asked for.
        UsageError: none of them can answer for classes that it did not learn from.
    """
    features = data.features
    why: dict[str, str] = {}
    lacking: dict[str, StoreError] = {}
    bound: list[str] = []  # to the classes that they learn from
    for method in chosen:
        forms = reads_under(method, given[method.name])
        if features.text is None and any(reads.text for reads in forms):
            why[method.name] = f"it needs text features, and {features.dataset} has none"
        elif not all(target.serves(method) for target in targets):
            bound.append(method.name)
        elif (error := _lacking(method, given[method.name], data, targets)) is not None:
            why[method.name], lacking[method.name] = f"{error.what}; {error.fix}", error
    fit = [method for method in chosen if method.name not in (*why, *bound)]
    if not any(method.name in asked for method in fit):
        raise _none_runs(asked, lacking, bound, data)
    lines = [
        f"{', '.join(names)} {'do' if len(names) > 1 else 'does'} not run: {reason}"
        for reason, names in _by_reason(why).items()
    ]
    if bound := [name for name in bound if name in asked]:
        lines.append(f"only for the classes that they learn from, so left out: {', '.join(bound)}")
    return fit, lines


def _by_reason(why: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in why.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _lacking(
    method: type[Method], given: Choices, data: SetData, targets: Sequence[Target]
) -> StoreError | None:
    """What is missing of what a method reads, where it learns or where it is tested; or None."""
    forms, views = reads_under(method, given), given.get("views", (method().views,))
    errors = [data.lacking(reads, views) for reads in forms]
    errors += [target.data.untestable(reads, views) for target in targets for reads in forms]
    if method.reads_new_shots:
        errors += [target.data.lacking(reads, views) for target in targets for reads in forms]
    return next(filter(None, errors), None)


def _none_runs(
    asked: Sequence[str], lacking: Mapping[str, StoreError], bound: Sequence[str], data: SetData
) -> CacheclipError:
    """Why no method that was asked for runs."""
    features = data.features
    if asked[0] in lacking:
        lacked = [(name, lacking[name]) for name in asked if name in lacking]
        return StoreError(
            "; ".join(f"{name}: {error.what}" for name, error in lacked),
            where=lacked[0][1].where,
            fix=all_of([error for _, error in lacked]).fix,
        )
    if asked[0] in bound:
        every = map(methods.get, methods.names())
        others = [own.name for own in every if own.transfers or own.learns != "support"]
        return UsageError(
            f"{some([name for name in asked if name in bound])}: only for the classes learned from",
            where=f"{argument('base-to-new')}, {argument('test-on')}",
            fix=f"take {argument('methods')} of {', '.join(others)}",
        )
    plain = [name for name in methods.names() if not methods.get(name)().reads.text]
    return StoreError(
        f"{asked[0]} needs text features, and this feature set has none",
        where=f"data set {features.dataset}, encoder {features.name}",
        fix=f"take {' or '.join(plain)}, or {features.text_command}",
    )


def can_run(
    method: type[Method],
    shots: Sequence[Shots],
    seed: int,
    fewer: Fewer,
    data: SetData,
    *,
    alone: bool,
) -> bool:
    """Whether a method of the floor draws nothing, or has a draw for some of the shots asked for.

    Args:
        method: it was not asked for itself.
        shots: all that were asked for.
        seed: the first.
        fewer: what a class with fewer images does.
        data: the feature set.
        alone: no method that was asked for draws anything: then for all of the shots.
    """
    possible = []
    for k in shots if method.learns == "support" else ():
        try:
            data.draw(k, seed, fewer)
            possible.append(True)
        except CacheclipError:
            possible.append(False)
    return all(possible) if alone else any(possible) or not possible
