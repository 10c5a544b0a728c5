"""`cacheclip rm`: take a data set's features out of the home."""

import sys
from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("rm")
@click.argument("dataset", metavar="SET")
@options.model
@options.pretrained
@click.option("--dry-run", is_flag=True, help="List what would go, and leave it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.home
@options.as_json
def command(
    dataset: str,
    model: str | None,
    pretrained: str | None,
    dry_run: bool,
    yes: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Delete the features of SET, or what one encoder made of it; pictures are never touched.

    Rows in the results log, predictions and bundles stay.

    Example: cacheclip rm photos/birds --dry-run
    """
    from cacheclip.errors import UsageError, plain
    from cacheclip.store.home import Home
    from cacheclip.store.remove import parts_of, remove

    place = Home.resolve(home)
    parts = parts_of(place, dataset, model, pretrained)
    named = parts[0].dataset if parts else dataset
    size = f"{sum(part.bytes for part in parts) / 1e6:.1f} MB of {named}"
    if dry_run:
        output.parts(parts, place.root, as_json=as_json)
        output.talk(f"would go: {size}")
        return
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            f"rm would delete {size}, and there is nobody to ask",
            where="stdin is no terminal",
            fix="add --yes to the same command; --dry-run lists what would go",
        )
    if not yes:
        click.confirm(plain(f"Delete {size} below {place.root}?"), abort=True, err=True)
    gone, left = remove(place, parts)
    if as_json:
        output.data([part.as_json() for part in gone])
    output.talk(*left)
    output.talk(
        f"deleted {sum(part.bytes for part in gone) / 1e6:.1f} MB of {named}; "
        "its rows, predictions and bundles stay"
    )
    if left:
        sys.exit(4)
