"""`cacheclip compare`: a fair table of methods x settings x shots x seeds from the cache."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path

import click

from cacheclip.cli import options, output


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
    "--methods", metavar="NAME[,NAME]", callback=options.names, help="Methods. [default: all]"
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
@options.set_
@options.home
@options.as_json
def command(
    datasets: tuple[str, ...],
    model: str | None,
    pretrained: str | None,
    methods: tuple[str, ...],
    shots: tuple[int, ...],
    seeds: int,
    select: str | None,
    set_: tuple[str, ...],
    home: Path | None,
    as_json: bool,
) -> None:
    """Compare methods over shots, seeds and settings; every row goes to the results log.

    Example: cacheclip compare --dataset clipart --shots 1,4,16 --seeds 5
    """
    from cacheclip.errors import CacheclipError
    from cacheclip.results import LOG
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    sets = [place.find(name, model, pretrained) for name in datasets or (None,)]
    from cacheclip.study.compare import DEFAULT_METHODS, FLOOR, Comparison, Request
    from cacheclip.study.table import summary

    chosen = methods or DEFAULT_METHODS
    shown = chosen if as_json else (*FLOOR, *chosen)
    request = Request(shown, shots, tuple(range(1, seeds + 1)), select, set_)
    comparisons = [Comparison(request, features, place) for features in sets]
    printed, errors = [], []
    for comparison in comparisons:
        output.talk(*comparison.data.features.notices)
        output.talk(f"{comparison.data.features.dataset}: {comparison.plan}")
        rows = []
        with output.progress() as advance:
            for outcome, row in comparison.run(partial(advance, "runs")):
                rows.append(row)
                if isinstance(outcome.result, CacheclipError) and row.method in chosen:
                    errors.append(outcome.result)
        printed += [row.as_json() for row in rows]
        if not as_json:
            output.table(*summary(rows))
    if as_json:
        output.data(printed)
    for text, count in Counter(map(str, errors)).items():
        output.talk(f"{count} of {len(printed)} rows failed:", text)
    again = f"--dataset {sets[-1].dataset} --method {chosen[-1]}{place.option}"
    output.talk(f"results: {place.root / LOG}", f"next: cacheclip fit {again}")
    if errors and len(errors) == sum(row["method"] in chosen for row in printed):
        sys.exit(errors[0].exit_code)
