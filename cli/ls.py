"""`cacheclip ls`: what the home folder holds."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("ls")
@options.home
@options.as_json
def command(home: Path | None, as_json: bool) -> None:
    """List the stores of cached features, one a line.

    Example: cacheclip ls
    """
    from cacheclip.store.home import Home
    from cacheclip.store.inventory import inventory

    place = Home.resolve(home)
    found = inventory(place)
    if as_json:
        output.data([entry.as_json() for entry in found])
        return
    output.table(
        ["data set", "split", "layer", "encoder", "rows", "shards", "MB"],
        [entry.as_cells() for entry in found],
    )
    output.talk(f"home: {place.root}")
    if not found:
        output.talk("no stores yet", "next: cacheclip extract --dataset clipart")
