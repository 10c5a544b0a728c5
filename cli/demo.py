"""`cacheclip demo`: the whole line on the data and the encoder that ship."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("demo")
@options.home
def command(home: Path | None) -> None:
    """Extract the embedded pictures with the embedded encoder, compare methods, print the table.

    Example: cacheclip demo
    """
    from cacheclip.pipeline import DEMO_COMPARE, demo
    from cacheclip.results import LOG
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    with output.progress() as advance:
        headers, cells = demo(place, advance, output.talk)
    output.say("test accuracy in %, mean ± standard deviation over draws")
    output.table(headers, cells)
    output.talk(
        f"stores and results: {place.root} ({LOG} holds every row)",
        f"the same table again: {DEMO_COMPARE}{place.option}",
        f"next: cacheclip fit --shots 16{place.option}",
        "then: cacheclip predict BUNDLE with pictures of your own",
    )
