"""The two verbs: fit one head, compare many. Nothing is written unless a results folder is given.

head = fit("tip-adapter", data, shots=16, seed=1, alpha=[0.5, 1, 2])
table = compare(["tip-adapter", "clip-adapter"], data, shots=[1, 4, 16], seeds=3)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cacheclip.api.arguments import (
    features_of,
    no_choice,
    refuse_keep,
    refuse_several,
    request_of,
    sources_of,
    starts,
)
from cacheclip.api.head import Head
from cacheclip.api.table import Table
from cacheclip.draws import Fewer, Shots
from cacheclip.errors import CacheclipError, in_python
from cacheclip.features import Features
from cacheclip.study import rows
from cacheclip.study.compare import Comparison, methods_named
from cacheclip.study.fit import one_cell
from cacheclip.study.table import notes
from cacheclip.study.target_table import notes as target_notes


@dataclass(frozen=True)
class Results:
    """A folder that rows are kept in, and taken from again."""

    root: Path


def fit(
    method: str,
    data: Features,
    *,
    shots: Shots = 16,
    seed: int = 1,
    select: str | None = None,
    recipe: str | None = None,
    draw: str | Path | None = None,
    fewer: Fewer = "error",
    max_memory: int | None = None,
    calibrate: bool = True,
    init_seed: int | None = None,
    **settings: Any,
) -> Head:
    """Fit one head on one few-shot draw, and test it where there is a test split.

    Args:
        method: its name; `cacheclip methods` lists them.
        data: the features.
        shots: support images a class; "all" is every training image.
        seed: of the draw, and of what is random in the fit.
        select: how settings are chosen: `fixed`, `fewshot-val`, `full-val` or `support-loo`; by
            default on the validation images, where there are enough of them. `test-oracle` tunes on
            the test images, and marks that it makes no result.
        recipe: `as-code` or `as-paper`, for a method that knows both.
        draw: `ranked`, `coop` for CoOp's own of that seed, `given` for those that came with the
            data, or the path of a file of ids; by default `given` where any are.
        fewer: "keep" takes what there is of a class with fewer images than that.
        max_memory: working memory in bytes.
        calibrate: whether a trained method may be trained again on parts of its support, so that
            its probabilities are calibrated where no other images are left for that.
        init_seed: of the start and of the order of the data; by default `seed`.
        **settings: of the method: a value, or a list of candidates to choose from.

    Raises:
        CacheclipError: something is wrong with these, or the fit failed.
    """
    features = features_of(data)
    with in_python():
        request = request_of(
            method,
            shots,
            [seed],
            settings,
            select=select,
            recipe=recipe,
            draw=None if draw is None else str(draw),
            fewer=fewer,
            max_memory=max_memory,
        )
        refuse_several(request)
        request = replace(request, init_seeds=starts(None if init_seed is None else [init_seed]))
        wanted = replace(request, tests=False, calibrate_anew=calibrate)
        comparison = Comparison(wanted, features.source)
        if len(comparison.blocks[0].cells) > 1:
            raise no_choice(request, features)
        said: list[str] = []
        outcome, winner, row = one_cell(comparison, notice=said.append)
        bundle = rows.bundle(comparison.blocks[0], outcome, winner, comparison.data)
    return Head(bundle, features.classes, row, tuple(said))


def compare(
    methods: str | Sequence[str],
    data: Features,
    *,
    shots: Shots | Sequence[Shots] = (1, 2, 4, 8, 16),
    seeds: int | Sequence[int] = 3,
    select: str | Sequence[str] | None = None,
    recipe: str | None = None,
    draw: str | Path | None = None,
    fewer: Fewer = "error",
    max_memory: int | None = None,
    results: Path | str | None = None,
    keep: Literal["logits"] | None = None,
    init_seeds: int | Sequence[int] | None = None,
    base_to_new: bool | Literal["difficulty"] = False,
    test_on: Features | Sequence[Features] = (),
    **settings: Any,
) -> Table:
    """Compare methods over shots, seeds and settings on the test split.

    Args:
        methods: their names.
        data: the features.
        shots: support images a class, one count or several.
        seeds: of the draws; N means 1 to N.
        select: how settings are chosen; see `fit`. Of several policies each has its rows, and what
            they have in common is fitted once. Under `fixed` each combination of settings is a
            row of its own.
        recipe: see `fit`.
        draw: see `fit`.
        fewer: see `fit`.
        max_memory: working memory in bytes.
        results: a folder that the rows are kept in; those that it has already are not run again.
        keep: "logits" to keep all logits there too, as `cacheclip.predictions` gives them.
        init_seeds: of the starts and orders of data of each draw; by default one, the draw's seed.
        base_to_new: learn from the base classes, the first half, and test on base, new and all; by
            `difficulty` base are those that zero-shot knows best on training pictures.
        test_on: other features to be tested on too, whose classes are found by their names.
        **settings: a value or a list of candidates; of one method alone under its name, as in
            `clip_adapter={"alpha": [0.2, 0.6]}`.

    Raises:
        CacheclipError: something is wrong with these, or no row could be made.
    """
    features = features_of(data)
    with in_python():
        request = request_of(
            methods,
            shots,
            seeds,
            settings,
            select=select,
            recipe=recipe,
            draw=None if draw is None else str(draw),
            fewer=fewer,
            max_memory=max_memory,
        )
        kept = None if results is None else Results(Path(results))
        refuse_keep(keep, kept)
        every = replace(
            request,
            methods=methods_named(request.methods),
            keep=keep,
            base_to_new=base_to_new,
            test_on=sources_of(test_on),
            init_seeds=starts(init_seeds),
        )
        comparison = Comparison(every, features.source, kept)
        said = [*comparison.refusals, *comparison.shortages, *comparison.notices]
        errors = [
            outcome.result
            for outcome, _ in comparison.run(notice=said.append)
            if isinstance(outcome.result, CacheclipError)
        ]
        if errors and all(row.error for row in comparison.rows):
            raise errors[-1]
        chooses = any(block.policy.reads_val for block in comparison.blocks)
        said += notes(comparison.own_rows, comparison.draws, chooses=chooses)
        said += target_notes(comparison.rows)
    return Table(comparison.rows, tuple(said))
