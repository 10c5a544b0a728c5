"""Where the support sets of a study come from, and whether its draws differ at all."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cacheclip.draws import Draw, Shots
from cacheclip.errors import InputError, UsageError, argument
from cacheclip.files import regular
from cacheclip.store.given import common_seeds
from cacheclip.study.data import SetData
from cacheclip.study.supports import COOP, GIVEN, LISTED, RANKED, Listed

RECORD = '{"seed": 1, "shots": 16, "support": [IDS], "val": [IDS]}'  # of a file of draws


def sampled(data: SetData, asked: str | None, shots: Sequence[Shots], seeds: Sequence[int]) -> None:
    """Settle how support sets are drawn: as given with the set where any are, unless told else.

    Args:
        data: the feature set.
        asked: `ranked`, `coop`, `given`, the path of a file of draws, or None.
        shots: all shot counts of the study; none where nothing is drawn.
        seeds: all its seeds.

    Raises:
        UsageError: there is no such procedure and no such file.
        InputError: a draw of these shots and seeds is not there, or a file is none of draws.
    """
    there: Collection[tuple[int, int]] = data.features.given_draws
    if asked in (RANKED, COOP) or (asked is None and not there):
        data.supports.procedure = asked or RANKED
        return
    lie, where = "did not come with this set", f"data set {data.features.dataset}"
    data.supports.procedure = GIVEN
    if asked not in (None, GIVEN):
        data.supports.procedure = LISTED
        data.supports.listed = there = _read(Path(asked))
        lie, where = "are not in this file", str(asked)
    missing = [(seed, k) for k in shots for seed in seeds if (seed, k) not in there]
    if missing:
        first = ", ".join(f"seed {seed} with {k} shots" for seed, k in missing[:3])
        more = ", ..." if missing[3:] else ""
        raise InputError(
            f"{len(missing)} draws {lie}: {first}{more}",
            where=f"{where} (has {_listed(list(there))})",
            fix=_fix(data, asked, list(there)),
        )


def _read(path: Path) -> Listed:
    """The draws of a file: one record or a list, as a results folder keeps them in `draws/`."""
    if not regular.expanded(path).exists():
        raise UsageError(
            f"there is no {argument('draw', str(path))}, and no such file",
            where=argument("draw"),
            fix=f"use {argument('draw', RANKED)}, {argument('draw', COOP)} or "
            f"{argument('draw', GIVEN)}, or name a file of draws",
        )
    try:
        content = regular.parsed(regular.read_text(regular.expanded(path)))
        made: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
        for record in content if isinstance(content, list) else [content]:
            key, own = _record(record)
            if key in made:
                raise ValueError(f"seed {key[0]} with {key[1]} shots stands there twice")
            made[key] = own
    except (OSError, ValueError) as error:
        raise InputError(
            f"this is no file of draws: {error}",
            where=str(path),
            fix=f"write a JSON list of records {RECORD}, or use {argument('draw', RANKED)}",
        ) from None
    return made


def _record(record: Any) -> tuple[tuple[int, int], tuple[list[str], list[str]]]:
    """Seed and shots, and ids of the support and of the validation pictures."""
    match record:
        case {"seed": int(seed), "shots": int(shots), "support": [*support]} if bool not in (
            type(seed),
            type(shots),
        ):
            val = record.get("val", [])
        case _:
            raise ValueError("a record needs a seed and shots as numbers, and a list `support`")
    if not isinstance(val, list) or not all(isinstance(own, str) for own in (*support, *val)):
        raise ValueError(f"the images of seed {seed} with {shots} shots are no list of ids")
    return (seed, shots), (support, val)


def _listed(there: Sequence[tuple[int, int]]) -> str:
    by_shots: dict[int, list[int]] = {}
    for seed, k in sorted(there):
        by_shots.setdefault(k, []).append(seed)
    listed = "; ".join(
        f"{k} shots: seed {', '.join(map(str, seeds))}" for k, seeds in sorted(by_shots.items())
    )
    return listed or "no draws"


def _fix(data: SetData, asked: str | None, there: Sequence[tuple[int, int]]) -> str:
    own = f"add {argument('draw', RANKED)} for other draws"
    shots, seeds = common_seeds(there)
    if not seeds:
        return own
    words = ["cacheclip", "compare", "--dataset", data.features.dataset]
    words += ["--shots", ",".join(map(str, shots)), "--seeds", str(seeds)]
    words += ["--draw", asked] if asked not in (None, GIVEN) else []
    return f"{own}, or: {shlex.join(words)}"


def notices(draws: Sequence[Draw], data: SetData) -> list[str]:
    """What there is to know of a study's draws: that they are given, or all of the same pictures.

    Args:
        draws: all that the study reads, in any order.
        data: the feature set.
    """
    lines = _same_pictures(draws)
    if draws and data.supports.procedure == GIVEN:
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
