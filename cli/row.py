"""`cacheclip row`: one row of the results log in full."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("row")
@click.argument("row_id", required=False)
@options.home
@options.results_read
@options.as_json
def command(row_id: str | None, home: Path | None, results: Path | None, as_json: bool) -> None:
    """Show a row of the results log in full; by default the one logged last.

    Top-1, top-5 and macro accuracy, negative log-likelihood, debiased calibration error with its
    interval, recall of each class, the most frequent confusions, and the wrong pictures by name.
    The first letters of ROW_ID will do; --json of compare and stats has it.

    Example: cacheclip row
    """
    from dataclasses import replace

    from cacheclip.answers import curve, predictions
    from cacheclip.results import rows
    from cacheclip.stats.one_row import about, class_names, measures, row_named, table
    from cacheclip.store.home import Home
    from cacheclip.study.per_class import report, tables

    place = Home.resolve(home)
    root, option = options.log_of(place, results)
    row = row_named([*rows(root, notice=output.talk).values()], row_id, root, option)
    answers = predictions(root, row.row_id)
    found = measures(row, answers)
    names, notices = class_names(row, place)
    whole = report(answers, names)
    output.talk(*about(row), *notices)
    if as_json:
        row = row if row.curve else replace(row, curve=curve(root, row.row_id))
        output.data({"row": row.as_json(), "measures": found, **whole})
        return
    output.table(*table(found, row.n_classes))
    for title, cells in tables(whole):
        output.table(*cells, title)
