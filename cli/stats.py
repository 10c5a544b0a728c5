"""`cacheclip stats`: what the results log says of methods, from the log alone."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cacheclip.cli import options, output

if TYPE_CHECKING:
    from cacheclip.draws import Shots


@click.command("stats")
@click.argument("methods", metavar="[METHOD]...", nargs=-1)
@options.of_datasets
@options.of_shots
@options.of_model
@options.of_draw
@options.of_classes
@options.of_test_on
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Of two methods, a line a trial; of all, every setting of a sweep.",
)
@options.home
@options.results_read
@options.as_json
def command(
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    shots: tuple["Shots", ...],
    model: str | None,
    draw: str | None,
    classes: str,
    test_on: str | None,
    verbose: bool,
    home: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Say what the results log holds of METHODs: means, paired differences, ranks.

    Two are compared trial by trial (data set, shots, seed): difference with its bootstrap interval,
    trials won, tied and lost, sign test, Wilcoxon's, McNemar's on the pictures. More are ranked,
    with Friedman's test and the critical difference. METHOD@POLICY, METHOD@RECIPE and
    METHOD@NAME=VALUE tell apart how a method was run. docs/statistics.md has the formulas.

    Example: cacheclip stats tip-adapter gda
    """
    from cacheclip.stats import tables
    from cacheclip.stats.board import board
    from cacheclip.stats.comparable import Wanted
    from cacheclip.stats.paired import compared, pair_json
    from cacheclip.stats.ranks import ranked
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    root, option = options.log_of(place, results)
    wanted = Wanted(datasets, shots, model, draw, classes, test_on)
    found = board(root, methods, wanted, option=option, notice=output.talk)
    swept: list[str] = []
    if not (methods or verbose):
        found, swept = found.without_sweeps()
    pairwise = compared(found, output.talk) if len(methods) == 2 else []
    ranks = None if pairwise else ranked(found)
    if as_json:
        answer = tables.as_json(found, ranks)
        if pairwise:
            answer["paired"] = [own.as_json() for own in pairwise]
            answer["trials"] = [pair_json(pair) for pair in pairwise[-1].pairs]
        output.data(answer)
        return
    if pairwise:
        output.table(*tables.differences(pairwise, found.labels))
        if verbose:
            output.table(*tables.pairs(pairwise[-1].pairs, found.labels), "trial by trial")
        output.talk(*tables.worth(pairwise[-1]))
    else:
        for title, cells in tables.accuracies(found):
            output.table(*cells, title)
        output.talk(f"test accuracy in %{found.on}, mean ± standard deviation over seeds")
    output.talk(*tables.given(found), *(f"not listed: {own}; add -v" for own in swept))
    if ranks and ranks.tells_apart:
        output.table(*tables.ranks(ranks, found), "ranks over the trials that all of them have")
        output.talk(*tables.rank_notes(ranks, found))
    elif ranks:
        output.talk(*tables.no_ranks(ranks, found))
    elif len(found.names) > 2:
        output.talk("no ranks: all of them met in fewer than two data sets or seeds")
    output.talk(*(f"missing: {line}" for line in (found.lacking() if methods else ())))
