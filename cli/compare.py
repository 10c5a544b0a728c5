"""`cacheclip compare`: a fair table of methods x settings x shots x seeds from the cache."""

import shlex
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cacheclip.cli import options, output
from cacheclip.methods import names

if TYPE_CHECKING:
    from cacheclip.draws import Fewer, Shots
    from cacheclip.results import Row
    from cacheclip.store.features import FeatureSet
    from cacheclip.store.home import Home


@click.command("compare")
@click.argument("pair", metavar="[A B]", nargs=-1)
@click.option(
    "--dataset",
    "datasets",
    metavar="NAME[,NAME]",
    multiple=True,
    callback=lambda ctx, param, value: options.names(ctx, param, ",".join(value)),
    help="Data sets, all of them. [default: the one extracted last] Repeatable.",
)
@options.model
@options.pretrained
@options.aux
@click.option(
    "--methods",
    metavar="NAME[,NAME]",
    callback=options.names,
    help=f"{', '.join(names())}; or all: every one. [default: linear-probe, tip-adapter, "
    "tip-adapter-f, clip-adapter] A table shows zero-shot and nearest-mean before them.",
)
@click.option(
    "--shots",
    metavar="K[,K]",
    callback=options.shot_counts,
    default="1,2,4,8,16",
    show_default=True,
    help="Support pictures a class; all: every training picture.",
)
@options.fewer
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How many draws of support pictures: those of the seeds 1 to N.",
)
@click.option(
    "--init-seeds",
    metavar="N",
    type=click.IntRange(1),
    help="Starts and orders of data 1, ..., N for each draw. [default: one, by the draw's seed]",
)
@options.classes
@click.option(
    "--base-to-new",
    type=click.Choice(["order", "difficulty"]),
    is_flag=False,
    flag_value="order",
    help="Learn from the base classes, the first half, or by difficulty those that zero-shot knows "
    "best on training pictures; test on base, new and all, with both harmonic means.",
)
@click.option(
    "--test-on",
    metavar="NAME[,NAME]",
    callback=options.names,
    help="Test on these data sets too, whose classes are found by their names.",
)
@options.selects
@options.draw
@options.recipe
@options.settings
@click.option(
    "--on-existing",
    type=click.Choice(["skip", "redo"]),
    default="skip",
    show_default=True,
    help="What to do with rows that the results log has already.",
)
@click.option(
    "--why",
    is_flag=True,
    help="Of two rows of the log, A and B, each by its id or as METHOD[@POLICY...]: swap one "
    "ingredient at a time and say how many points each adds.",
)
@options.keep
@options.per_class
@options.max_memory
@options.verbose
@options.home
@options.results
@options.as_json
def command(
    pair: tuple[str, ...],
    datasets: tuple[str, ...],
    model: str | None,
    pretrained: str | None,
    aux: str | None,
    methods: tuple[str, ...],
    shots: tuple["Shots", ...],
    fewer: "Fewer",
    seeds: int,
    init_seeds: int | None,
    classes: tuple[str, ...],
    base_to_new: Literal["order", "difficulty"] | None,
    test_on: tuple[str, ...],
    select: tuple[str, ...],
    draw: str | None,
    recipe: str | None,
    settings: dict[str, Any],
    on_existing: Literal["skip", "redo"],
    why: bool,
    keep: Literal["logits"] | None,
    per_class: bool,
    max_memory: int | None,
    verbose: bool,
    home: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Compare methods over shots, seeds and settings; every row goes to the results log.

    A row is there as soon as its runs are done, and the same command again makes only what is
    missing. The next step it names, and --per-class shows, is the row of METHODS with the best
    validation accuracy at the most shots; test accuracy chooses nothing.

    Example: cacheclip compare --dataset clipart --shots 1,4,16 --seeds 5
    """
    if pair or why:
        from cacheclip.cli.why import explained

        explained(pair, datasets, model, shots, max_memory, home, results, why=why, as_json=as_json)
        return
    from cacheclip.answers import predictions
    from cacheclip.errors import CacheclipError
    from cacheclip.results import LOG
    from cacheclip.store.auxiliary import with_aux
    from cacheclip.store.home import Home
    from cacheclip.store.results_place import results_home

    place = Home.resolve(home)
    first = [place.find(name, model, pretrained) for name in datasets or (None,)]
    sets = [with_aux(place, features, aux) for features in first]
    others = [
        [with_aux(place, _beside(place, name, features), aux) for name in test_on]
        for features in sets
    ]
    written, notices = results_home(place, results)
    output.talk(*notices)
    from cacheclip.study import next_step
    from cacheclip.study.compare import FLOOR, Comparison, Request, methods_named
    from cacheclip.study.per_class import report, tables
    from cacheclip.study.table import notes
    from cacheclip.study.target_intervals import intervals
    from cacheclip.study.target_table import means, notes as target_notes, table_of

    request = Request(
        methods=methods_named(methods),
        shots=shots,
        fewer=fewer,
        seeds=range(1, seeds + 1),
        select=select,
        settings=settings,
        recipe=recipe,
        on_existing=on_existing,
        max_memory=max_memory,
        floor=() if as_json else FLOOR,
        draw=draw,
        keep=keep,
        classes=classes,
        base_to_new="difficulty" if base_to_new == "difficulty" else base_to_new is not None,
        init_seeds=tuple(range(1, (init_seeds or 0) + 1)),
    )
    comparisons = [
        Comparison(replace(request, test_on=tuple(own)), features, written)
        for features, own in zip(sets, others, strict=True)
    ]
    asked = set(request.methods) - (set() if methods else set(FLOOR))
    rows: list[Row] = []
    printed: list[dict[str, Any]] = []
    steps: list[str] = []
    errors: list[CacheclipError] = []
    of_log: set[str] = set()
    for comparison in comparisons:
        output.talk(*comparison.data.features.notices, *comparison.refusals)
        fresh = [line for line in comparison.notices if line not in of_log]
        of_log |= {line for line in fresh if line.startswith(LOG)}  # all sets share one
        output.talk(*comparison.shortages, *fresh)
        output.talk(f"{comparison.data.features.dataset}: {comparison.plan}")
        output.talk(*(comparison.memory_plan() if verbose else ()))
        with output.progress() as advance:
            for outcome, _ in comparison.run(partial(advance, "runs"), output.talk):
                if isinstance(outcome.result, CacheclipError):
                    errors.append(outcome.result)
        rows += comparison.rows
        own = [row for row in comparison.own_rows if row.method in asked]
        best = next_step.best(own)
        if not as_json:
            title = [comparison.data.features.dataset] if len(sets) > 1 else []
            output.table(*table_of(comparison.rows), *title)
            for interval_title, cells in intervals(comparison.rows):
                output.table(*cells, interval_title)
            chooses = any(block.policy.reads_val for block in comparison.blocks)
            output.talk(*notes(comparison.own_rows, comparison.draws, chooses=chooses))
            output.talk(*target_notes(comparison.rows))
        found = {}
        if best and per_class:
            found = report(predictions(written, best.row_id), comparison.data.classnames)
            for what, cells in () if as_json else tables(found):
                output.table(*cells, what)
        printed += [row.as_json() | (found if row is best else {}) for row in comparison.rows]
        if per_class and not best:
            steps.append(
                "--per-class shows the row that --select prefers, and it prefers none here"
            )
        if step := next_step.best([row for row in own if next_step.leaves_bundle(row)]):
            drawn = f" --draw {shlex.quote(draw)}" if draw else ""
            command = next_step.command(step, comparison.choices, classes, aux)
            steps += [next_step.why(step), f"next: {command}{drawn}{written.option}"]
    if as_json:
        output.data(printed)
    elif len(sets) > 1 and base_to_new:
        output.table(*means(rows), f"mean over {len(sets)} data sets")
    for text, count in Counter(map(str, errors)).items():
        output.talk(f"{count} of {len(rows)} rows failed:", *text.splitlines())
    output.talk(f"results: {written.root / LOG}", *steps)
    if errors and all(row.error for row in rows if row.method in request.methods):
        sys.exit(errors[-1].exit_code)  # nothing that was asked for went well


def _beside(place: "Home", name: str, features: "FeatureSet") -> "FeatureSet":
    """The set of that name by the same encoder; arrays are each their own."""
    from cacheclip.store.schema import IMPORTED

    encoder = features.encoder
    weights = None if encoder["library"] == IMPORTED else encoder["pretrained"]
    return place.find(name, encoder["name"], weights)
