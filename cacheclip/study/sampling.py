"""Where the support sets of a study come from, and whether its draws differ at all."""

import shlex
from collections.abc import Sequence

from cacheclip.draws import Draw, Shots
from cacheclip.errors import InputError, UsageError, argument
from cacheclip.store.given import common_seeds
from cacheclip.store.source import About
from cacheclip.study.data import GIVEN, RANKED, SetData


def sampling(
    asked: str | None, shots: Sequence[Shots], seeds: Sequence[int], features: About
) -> str:
    """The sampling procedure: `given` where draws came with the set, unless another is asked for.

    Args:
        asked: `given`, `ranked`, or None.
        shots: all shot counts of the study; none where nothing is drawn.
        seeds: all its seeds.
        features: the feature set.

    Raises:
        UsageError: there is no such procedure.
        InputError: a draw of these shots and seeds did not come with the set.
    """
    if asked not in (None, RANKED, GIVEN):
        fix = f"use {argument('draw', RANKED)} or {argument('draw', GIVEN)}"
        raise UsageError(f"there is no {argument('draw', asked)}", where=argument("draw"), fix=fix)
    there = {} if asked == RANKED else features.given_draws
    if asked != GIVEN and not there:
        return RANKED
    missing = [(seed, k) for k in shots for seed in seeds if (seed, k) not in there]
    if missing:
        first = ", ".join(f"seed {seed} with {k} shots" for seed, k in missing[:3])
        more = ", ..." if missing[3:] else ""
        raise InputError(
            f"{len(missing)} draws did not come with this set: {first}{more}",
            where=f"data set {features.dataset} (has {_listed(list(there))})",
            fix=_fix(features, list(there)),
        )
    return GIVEN


def _listed(there: Sequence[tuple[int, int]]) -> str:
    by_shots: dict[int, list[int]] = {}
    for seed, k in sorted(there):
        by_shots.setdefault(k, []).append(seed)
    listed = "; ".join(
        f"{k} shots: seed {', '.join(map(str, seeds))}" for k, seeds in sorted(by_shots.items())
    )
    return listed or "no draws"


def _fix(features: About, there: Sequence[tuple[int, int]]) -> str:
    own = f"add {argument('draw', RANKED)} for other draws"
    shots, seeds = common_seeds(there)
    if not seeds:
        return own
    words = ["--dataset", features.dataset, "--shots", ",".join(map(str, shots))]
    return f"{own}, or: {shlex.join(['cacheclip', 'compare', *words, '--seeds', str(seeds)])}"


def notices(draws: Sequence[Draw], data: SetData) -> list[str]:
    """What there is to know of a study's draws: that they are given, or all of the same pictures.

    Args:
        draws: all that the study reads, in any order.
        data: the feature set.
    """
    lines = _same_pictures(draws)
    if draws and data.draws_are == GIVEN:
        others = argument("draw", RANKED)
        lines.append(f"draws as given with {data.features.dataset}; others with {others}")
    return lines


def _same_pictures(draws: Sequence[Draw]) -> list[str]:
    by_shots: dict[Shots, dict[int, Draw]] = {}
    for draw in draws:
        by_shots.setdefault(draw.shots, {})[draw.seed] = draw
    lines: dict[str, list[Shots]] = {}  # what is said -> of which shot counts
    for shots, own in by_shots.items():
        support = {frozenset(draw.support) for draw in own.values()}
        val = {frozenset(draw.val) for draw in own.values()}
        if len(own) > 1 and len(support) == 1:
            rest = "starts" if len(val) == 1 else "starts and validation pictures"
            said = f"are the same pictures: these {len(own)} seeds differ in {rest} alone"
            lines.setdefault(said, []).append(shots)
    return [f"all draws of {argument('shots', *shots)} {said}" for said, shots in lines.items()]
