"""`cacheclip ls`: what the home folder holds."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("ls")
@click.option("-v", "--verbose", is_flag=True, help="List every store, one a line.")
@options.home
@options.as_json
def command(verbose: bool, home: Path | None, as_json: bool) -> None:
    """List the data sets and encoders whose features are cached; --json lists every store.

    Example: cacheclip ls
    """
    from cacheclip.store.home import Home
    from cacheclip.store.inventory import inventory
    from cacheclip.store.overview import HEADERS, overview
    from cacheclip.store.prune import unused

    place = Home.resolve(home)
    found = overview(place)
    output.talk(*found.problems)
    if as_json:
        output.data([entry.as_json() for entry in inventory(place)])
        return
    lines = found.lines
    if verbose:
        output.table(
            ["data set", "split", "layer", "encoder", "rows", "shards", "MB"],
            [entry.as_cells() for entry in inventory(place)],
        )
    else:
        output.table(HEADERS, [line.as_cells() for line in lines])
    for line in lines:
        if line.finish:
            output.talk(f"{line.dataset} by {line.encoder} is {line.state}; next: {line.finish}")
    spare = sum(part.bytes for part in unused(place))
    if spare:
        output.talk(f"nothing uses {spare / 1e6:.1f} MB of it: cacheclip prune{place.option}")
    output.talk(f"home: {place.root}")
    if not lines:
        output.talk("no stores yet", "next: cacheclip extract --dataset clipart")
