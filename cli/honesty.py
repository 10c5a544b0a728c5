"""`cacheclip honesty`: what choosing on the test pictures would have added."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cacheclip.cli import options, output

if TYPE_CHECKING:
    from cacheclip.draws import Shots


@click.command("honesty")
@click.argument("methods", metavar="[METHOD]...", nargs=-1)
@options.of_datasets
@options.of_shots
@options.of_model
@options.of_draw
@options.of_classes
@options.of_test_on
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
    home: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Show the price of tuning on test: each policy beside the best of all settings in the log.

    The settings are those of rows made with --select fixed and several values of --set; what is
    missing for METHODs is named as the command that makes it. The best on test is no result: it
    read the answers.

    Example: cacheclip honesty tip-adapter
    """
    from cacheclip.stats.board import board
    from cacheclip.stats.comparable import Wanted
    from cacheclip.stats.policies import honesty, lacking, table, unlisted
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    root, option = options.log_of(place, results)
    wanted = Wanted(datasets, shots, model, draw, classes, test_on)
    whole = board(root, wanted=wanted, option=option, notice=output.talk)
    found = honesty(whole, methods)
    missing = lacking(whole, methods) if methods else []
    if as_json:
        output.data({"lines": [line.as_json() for line in found], "missing": missing})
        return
    output.table(*table(found))
    without = unlisted(whole, found, methods)
    partial = any(line.n_trials > len(line.best) for line in found)
    output.talk(
        f"test accuracy in %{whole.on}; in brackets what the best of all settings has over it",
        "best on test chose by the test labels: it is the price of tuning on test, and no result",
        *["trials without the whole grid, or a policy, are left out"] * partial,
        *["+: and all those that test-oracle tried"] * any(line.searched for line in found),
        *(f"not listed: {own}: no trial has several settings and all policies" for own in without),
        *(f"missing: {line}" for line in missing),
    )
