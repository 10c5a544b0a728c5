"""From a request to blocks: what was asked for, as far as the set has the features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cacheclip.draws import Fewer, Shots
from cacheclip.errors import CacheclipError, StoreError, UsageError, argument, some
from cacheclip.methods import base as methods
from cacheclip.methods.base import TEXT_NORM, Method
from cacheclip.select.base import Policy
from cacheclip.study.data import SetData
from cacheclip.study.plan import (
    Block,
    blocks,
    depends_on_draws,
    refuse_recipe,
    refuse_too_many,
)
from cacheclip.study.policy import policy_for
from cacheclip.study.sampling import sampled
from cacheclip.study.settings import Choices, Given, choices, reads_under


@dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        methods: their names.
        shots: support images a class; `all` is every training image.
        fewer: `keep` takes what there is of a class with fewer images than that.
        seeds: of the draws.
        select: policies, whose rows share the fits that they have in common; of none the default:
            `fewshot-val` where val has every class, else `support-loo`.
        settings: setting -> a value or several; method -> such settings of its own.
        recipe: `as-code` or `as-paper`, for the methods that know both.
        on_existing: `skip` re-uses rows of the log, `redo` runs them again.
        max_memory: working memory in bytes; None leaves it to the device.
        floor: methods that stand in the table before those, where they can run.
        draw: `given` or `ranked`; None takes the draws that came with the set, if any did.
        calibrate_anew: whether a trained method without rivals is trained again for its
            temperature where nothing else is left, which is most of the work.
        tests: whether there must be test pictures; else what has none is fitted and not scored.
    """

    methods: tuple[str, ...]
    shots: tuple[Shots, ...]
    seeds: Sequence[int] = (1,)
    select: str | Sequence[str] | None = None
    settings: Given = field(default_factory=dict)
    recipe: str | None = None
    on_existing: Literal["skip", "redo"] = "skip"
    max_memory: int | None = None
    floor: tuple[str, ...] = ()
    draw: str | None = None
    fewer: Fewer = "error"
    calibrate_anew: bool = False
    tests: bool = True

    @property
    def is_fit(self) -> bool:
        """Whether it is one fit, and no comparison."""
        return self.calibrate_anew or not self.tests


def asked(request: Request, data: SetData) -> tuple[list[Block], dict[str, Choices], list[str]]:
    """What was asked for, as far as the set has the features: blocks without draws yet.

    Beside them the settings that were given, and why each other method does not run.
    """
    names = dict.fromkeys((*request.floor, *request.methods))
    chosen = [methods.get(name) for name in names]
    given = choices(request.settings, chosen)
    refuse_recipe(request.recipe, chosen)
    select = (request.select,) if isinstance(request.select, str) else request.select
    chosen_by = [policy_for(name, data) for name in dict.fromkeys(select or (None,))]
    if request.is_fit and len(chosen_by) > 1:
        raise UsageError(
            f"one fit has one policy, and here are {len(chosen_by)}",
            where=argument("select"),
            fix=f"use {argument('select', chosen_by[0].name)}, or compare",
        )
    able, refusals = _able(chosen, request.methods, given, data)
    for policy in chosen_by:
        refuse_too_many(able, request.shots, request.seeds, policy, given)
        refusals += _unknown(policy, able, request.methods)
    drawing = any(
        depends_on_draws(own, policy) and own.name in request.methods
        for own in able
        for policy in chosen_by
    )
    shots = request.shots if drawing else ()
    sampled(data, request.draw, shots, request.seeds, request.methods, one_fit=request.is_fit)
    able = [
        method
        for method in able
        if method.name in request.methods or _can_run(method, request, data, alone=not drawing)
    ]
    found: dict[tuple[str, Shots, str], Block] = {}
    for policy in chosen_by:
        made = blocks(
            [method for method in able if policy.knows(method)],
            request.shots,
            request.seeds,
            policy,
            given,
            data.logit_scale,
            request.recipe,
            data.per_class,
            _text_norm(able, data),
        )
        found |= {(block.method.name, block.shots, block.policy.name): block for block in made}
    order = {method.name: k for k, method in enumerate(able)}
    place = {shots: k for k, shots in enumerate(request.shots)}
    whole = sorted(found.values(), key=lambda b: (order[b.method.name], place.get(b.shots, 0)))
    return whole, given, refusals


def _unknown(policy: Policy, able: Sequence[type[Method]], asked: Sequence[str]) -> list[str]:
    """A line for each method that a policy has nothing to say of.

    Raises:
        UsageError: these are all that were asked for.
    """
    wanted = [method for method in able if method.name in asked]
    unknown = [method.name for method in wanted if not policy.knows(method)]
    if unknown and len(unknown) == len(wanted):
        known = [name for name in methods.names() if methods.get(name).transferred]
        raise UsageError(
            f"no settings of {some(unknown)} were published for {policy.name}",
            where=argument("select", policy.name),
            fix=f"take {' or '.join(known)}, or {argument('select', 'fixed')}",
        )
    return [
        f"{name} has no row of {policy.name}: no such settings are published" for name in unknown
    ]


def _text_norm(chosen: Sequence[type[Method]], data: SetData) -> float:
    """The norm that constants follow; text is not read where no method has such constants."""
    return data.texts.norm if any(own().reads.raw_text for own in chosen) else TEXT_NORM


def _able(
    chosen: Sequence[type[Method]],
    asked: Sequence[str],
    given: Mapping[str, Choices],
    data: SetData,
) -> tuple[list[type[Method]], list[str]]:
    """The methods that the set has all features for, and why each other one does not run.

    Raises:
        StoreError: there is none of those asked for.
    """
    features = data.features
    why: dict[str, str] = {}
    lacking: dict[str, StoreError] = {}
    for method in chosen:
        own = given[method.name]
        forms, views = reads_under(method, own), own.get("views", (1,))
        if features.text is None and any(reads.text for reads in forms):
            why[method.name] = f"it needs text features, and {features.dataset} has none"
        elif error := next(filter(None, (data.lacking(reads, views) for reads in forms)), None):
            why[method.name], lacking[method.name] = f"{error.what}; {error.fix}", error
    able = [method for method in chosen if method.name not in why]
    if not any(method.name in asked for method in able):
        if asked[0] in lacking:
            lacked = [(name, lacking[name]) for name in asked if name in lacking]
            raise StoreError(
                "; ".join(f"{name}: {error.what}" for name, error in lacked),
                where=lacked[0][1].where,
                fix=", and ".join(dict.fromkeys(error.fix for _, error in lacked)),
            )
        plain = [name for name in methods.names() if not methods.get(name)().reads.text]
        raise StoreError(
            f"{asked[0]} needs text features, and this feature set has none",
            where=f"data set {features.dataset}, encoder {features.name}",
            fix=f"take {' or '.join(plain)}, or {features.text_command}",
        )
    return able, [f"{name} does not run: {reason}" for name, reason in why.items()]


def _can_run(method: type[Method], request: Request, data: SetData, *, alone: bool) -> bool:
    """Whether a method of the floor draws nothing, or has a draw for some of the shots asked for.

    Args:
        method: it was not asked for itself.
        request: what was.
        data: the feature set.
        alone: no method that was asked for draws anything: then for all of the shots.
    """
    possible = []
    for shots in request.shots if method.learns == "support" else ():
        try:
            data.draw(shots, request.seeds[0], request.fewer)
            possible.append(True)
        except CacheclipError:
            possible.append(False)
    return all(possible) if alone else any(possible) or not possible
