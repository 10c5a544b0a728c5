"""Where the support sets of a study come from, and whether its draws differ at all."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacheclip.draws import Draw, Shots
from cacheclip.errors import InputError, UsageError, argument, counted, is_in_python, quoted
from cacheclip.files import regular
from cacheclip.store.given import common_seeds
from cacheclip.store.schema import IMPORTED
from cacheclip.study.data import SetData
from cacheclip.study.settings import written
from cacheclip.study.supports import COOP, GIVEN, LISTED, RANKED, Listed
from cacheclip.study.table import of_shots

if TYPE_CHECKING:
    from cacheclip.study.request import Request

ENCODER = ("model", "name"), ("pretrained", "pretrained")  # options, and what they name in a key
RECORD = '{"seed": 1, "shots": 16, "support": [IDS], "val": [IDS]}'  # of a file of draws


def sampled(data: SetData, request: "Request", shots: Sequence[Shots]) -> None:
    """Settle how support sets are drawn: as given with the set where any are, unless told else.

    Args:
        data: the feature set.
        request: its draw is `ranked`, `coop`, `given`, the path of a file of draws, or None.
        shots: all shot counts of the study; none where nothing is drawn.

    Raises:
        UsageError: there is no such procedure and no such file.
        InputError: a draw of these shots and seeds is not there, or a file is none of draws.
    """
    there: Collection[tuple[int, int]] = data.features.given_draws
    asked = request.draw
    if asked in (RANKED, COOP) or (asked is None and not there):
        data.supports.procedure = asked or RANKED
        return
    lost, where = "did not come with this set", f"data set {data.features.dataset}"
    data.supports.procedure = GIVEN
    if asked not in (None, GIVEN):
        data.supports.procedure = LISTED
        data.supports.listed = there = _read(Path(asked))
        lost, where = "not in this file", str(asked)
    missing = [(seed, k) for k in shots for seed in request.seeds if (seed, k) not in there]
    if missing:
        first = ", ".join(f"seed {seed} with {of_shots(k)}" for seed, k in missing[:3])
        more = ", ..." if missing[3:] else ""
        be = f"{'is' if len(missing) == 1 else 'are'} " if lost.startswith("not") else ""
        fix = f"add {argument('draw', RANKED)} for other draws"
        if there:
            fix += f", or: {_of_those(sorted(there), data, request)}"
        raise InputError(
            f"{counted(len(missing), 'draw')} {be}{lost}: {first}{more}",
            where=f"{where} (has {_listed(list(there))})",
            fix=fix,
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
        raise ValueError(f"the pictures of seed {seed} with {shots} shots are no list of ids")
    return (seed, shots), (support, val)


def _listed(there: Sequence[tuple[int, int]]) -> str:
    by_shots: dict[int, list[int]] = {}
    for seed, k in sorted(there):
        by_shots.setdefault(k, []).append(seed)
    listed = "; ".join(
        f"{of_shots(k)}: seed {', '.join(map(str, seeds))}" for k, seeds in sorted(by_shots.items())
    )
    return listed or "no draws"


def _of_those(there: Sequence[tuple[int, int]], data: SetData, request: "Request") -> str:
    """What runs the same on draws that are there.

    Args:
        there: (seed, shots) of each, sorted.
        data: the feature set.
        request: what was asked for: its methods, and how they were to be run.
    """
    shots, seeds = common_seeds(there)
    drawn: list[tuple[str, Sequence[object]]]
    if request.is_fit or not seeds:  # a comparison takes the seeds 1 to N
        verb, names, (seed, k) = "fit", request.methods[:1], there[0]
        drawn = [("shots", [k]), ("seed", [seed])]
    else:
        verb, names = "compare", request.methods
        drawn = [("shots", shots), ("seeds", [seeds])]
    drawn += [] if request.draw in (None, GIVEN) else [("draw", [request.draw])]
    select = [request.select] if isinstance(request.select, str) else request.select or []
    said = [("select", select), ("recipe", [request.recipe] if request.recipe else [])]
    how = [argument(name, *values) for name, values in said if values] + written(request.settings)
    options = [argument(name, *values) for name, values in drawn]
    if is_in_python():
        called = quoted(names[0] if len(names) == 1 else names)
        return f"cacheclip.{verb}({', '.join([called, 'data', *options, *how])})"
    features = data.features
    words = [argument("dataset", features.dataset)]
    if features.encoder["library"] != IMPORTED:
        words += [argument(name, features.encoder[key]) for name, key in ENCODER]
    words += [*how, argument("method" if verb == "fit" else "methods", *names), *options]
    return " ".join(["cacheclip", verb, *words]) + features.option


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
