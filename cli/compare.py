"""`cacheclip compare`: a fair table of methods x settings x shots x seeds from the cache."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cacheclip.cli import options, output

if TYPE_CHECKING:
    from cacheclip.results import Row


@click.command("compare")
@click.option(
    "--dataset",
    "datasets",
    metavar="NAME[,NAME]",
    callback=options.names,
    help="Data sets. [default: the one extracted last]",
)
@options.model
@options.pretrained
@click.option(
    "--methods",
    metavar="NAME[,NAME]",
    callback=options.names,
    help="Methods. [default: all] A table shows zero-shot and nearest-mean before them.",
)
@click.option(
    "--shots",
    metavar="K[,K]",
    callback=options.numbers,
    default="1,2,4,8,16",
    show_default=True,
    help="Support images a class.",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="N means 1, ..., N."
)
@options.select
@options.recipe
@options.set_
@click.option(
    "--on-existing",
    type=click.Choice(["skip", "redo"]),
    default="skip",
    show_default=True,
    help="What to do with rows that the results log has already.",
)
@options.max_memory
@options.verbose
@options.home
@options.results
@options.as_json
def command(
    datasets: tuple[str, ...],
    model: str | None,
    pretrained: str | None,
    methods: tuple[str, ...],
    shots: tuple[int, ...],
    seeds: int,
    select: str | None,
    recipe: str | None,
    set_: tuple[str, ...],
    on_existing: Literal["skip", "redo"],
    max_memory: int | None,
    verbose: bool,
    home: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Compare methods over shots, seeds and settings; every row goes to the results log.

    A row is there as soon as its runs are done, and the same command again makes only what is
    missing.

    Example: cacheclip compare --dataset clipart --shots 1,4,16 --seeds 5
    """
    from cacheclip.errors import CacheclipError
    from cacheclip.results import LOG
    from cacheclip.store.home import Home
    from cacheclip.store.results_place import results_home

    place = Home.resolve(home)
    sets = [place.find(name, model, pretrained) for name in datasets or (None,)]
    written, notices = results_home(place, results)
    output.talk(*notices)
    from cacheclip.study.compare import DEFAULT_METHODS, FLOOR, Comparison, Request
    from cacheclip.study.table import again, summary

    request = Request(
        methods=methods or DEFAULT_METHODS,
        shots=shots,
        seeds=tuple(range(1, seeds + 1)),
        select=select,
        set=set_,
        recipe=recipe,
        on_existing=on_existing,
        max_memory=max_memory,
        floor=() if as_json else FLOOR,
    )
    comparisons = [Comparison(request, features, written) for features in sets]
    rows: list[Row] = []
    errors: list[CacheclipError] = []
    for comparison in comparisons:
        output.talk(*comparison.data.features.notices, *comparison.refusals)
        output.talk(f"{comparison.data.features.dataset}: {comparison.plan}")
        output.talk(*(comparison.memory_plan() if verbose else ()))
        with output.progress() as advance:
            for outcome, _ in comparison.run(partial(advance, "runs"), output.talk):
                if isinstance(outcome.result, CacheclipError):
                    errors.append(outcome.result)
        rows += comparison.rows
        if not as_json:
            title = [comparison.data.features.dataset] if len(sets) > 1 else []
            output.table(*summary(comparison.rows), *title)
    if as_json:
        output.data([row.as_json() for row in rows])
    for text, count in Counter(map(str, errors)).items():
        output.talk(f"{count} of {len(rows)} rows failed:", text)
    steps = [f"next: {step}{written.option}" for step in again(rows)]
    output.talk(f"results: {written.root / LOG}", *steps)
    if errors and all(row.error for row in rows if row.method in request.methods):
        sys.exit(errors[-1].exit_code)  # nothing that was asked for went well
