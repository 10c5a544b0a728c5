"""`cacheclip prune`: take out of the home what nothing refers to any more."""

import sys
from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="List what would go, and leave it.")
@options.home
@options.as_json
def command(dry_run: bool, home: Path | None, as_json: bool) -> None:
    """Delete features of earlier pictures, text of no set, and what killed writers left.

    Extractions that were cut short stay, for the same command goes on with them.

    Example: cacheclip prune --dry-run
    """
    from cacheclip.store.home import Home
    from cacheclip.store.prune import unused
    from cacheclip.store.remove import remove

    place = Home.resolve(home)
    gone = unused(place)
    left: list[str] = []
    if not dry_run:
        gone, left = remove(place, gone)
    output.parts(gone, place.root, as_json=as_json)
    size = f"{sum(part.bytes for part in gone) / 1e6:.1f} MB"
    output.talk(*left, f"would go: {size}" if dry_run else f"deleted {size}")
    if left:
        sys.exit(4)
