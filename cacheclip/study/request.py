"""From a request to blocks: what was asked for, as far as the set has the features."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from cacheclip.draws import Fewer, Shots
from cacheclip.errors import UsageError, argument, some
from cacheclip.methods import base as methods
from cacheclip.methods.base import TEXT_NORM, Method
from cacheclip.select.base import Policy
from cacheclip.store.source import Source
from cacheclip.study.able import able, can_run
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
from cacheclip.study.settings import Choices, Given, choices
from cacheclip.study.targets import Target


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
        keep: `logits` to keep all logits beside what a row answered.
        classes: names of those that count, or `all`, `base` or `new`; of none all count.
        base_to_new: learn from the base classes, and be tested on base, new and all of them.
        test_on: other sets to be tested on too, by the names of their classes.
        init_seeds: of the start and of the order of data; of none each draw's own.
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
    keep: Literal["logits"] | None = None
    classes: tuple[str, ...] = ()
    base_to_new: bool = False
    test_on: tuple[Source, ...] = ()
    init_seeds: tuple[int, ...] = ()

    @property
    def is_fit(self) -> bool:
        """Whether it is one fit, and no comparison."""
        return self.calibrate_anew or not self.tests


def asked(
    request: Request, data: SetData, targets: Sequence[Target]
) -> tuple[list[Block], dict[str, Choices], list[str]]:
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
    fit, refusals = able(chosen, request.methods, given, data, targets)
    for policy in chosen_by:
        refuse_too_many(fit, request.shots, request.seeds, policy, given, request.init_seeds)
    refusals += _unknown(chosen_by, fit, request.methods)
    drawing = any(
        depends_on_draws(own, policy) and own.name in request.methods
        for own in fit
        for policy in chosen_by
    )
    shots = request.shots if drawing else ()
    sampled(data, request, shots)
    for target in targets:
        target.draw_alike()
    fit = [
        method
        for method in fit
        if method.name in request.methods
        or can_run(method, request.shots, request.seeds[0], request.fewer, data, alone=not drawing)
    ]
    found: dict[tuple[str, Shots, str], Block] = {}
    for policy in chosen_by:
        made = blocks(
            [method for method in fit if policy.knows(method)],
            request.shots,
            request.seeds,
            policy,
            given,
            data.logit_scale,
            request.recipe,
            data.per_class,
            _text_norm(fit, data),
            request.init_seeds,
        )
        found |= {(block.method.name, block.shots, block.policy.name): block for block in made}
    order = {method.name: k for k, method in enumerate(fit)}
    place = {shots: k for k, shots in enumerate(request.shots)}
    whole = sorted(found.values(), key=lambda b: (order[b.method.name], place.get(b.shots, 0)))
    return whole, given, refusals


def _unknown(
    policies: Sequence[Policy], able: Sequence[type[Method]], asked: Sequence[str]
) -> list[str]:
    """A line for each method that a policy has nothing to say of.

    Raises:
        UsageError: no policy has anything to say of any method that was asked for.
    """
    wanted = [method for method in able if method.name in asked]
    unknown = [(p, method.name) for p in policies for method in wanted if not p.knows(method)]
    if unknown and len(unknown) == len(wanted) * len(policies):
        known = [name for name in methods.names() if methods.get(name).transferred]
        raise UsageError(
            f"no settings of {some([name for _, name in unknown])} were published for "
            f"{policies[0].name}",
            where=argument("select", policies[0].name),
            fix=f"take {' or '.join(known)}, or {argument('select', 'fixed')}",
        )
    return [
        f"{name} has no row of {policy.name}: no such settings are published"
        for policy, name in unknown
    ]


def _text_norm(chosen: Sequence[type[Method]], data: SetData) -> float:
    """The norm that constants follow; text is not read where no method has such constants."""
    return data.texts.norm if any(own().reads.raw_text for own in chosen) else TEXT_NORM
