"""`cacheclip info`: one feature set, in full."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("info")
@click.argument("dataset", required=False)
@options.model
@options.pretrained
@options.home
@options.as_json
def command(
    dataset: str | None,
    model: str | None,
    pretrained: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Show the feature set of DATASET: encoder, preprocessing, classes, splits, failures.

    Example: cacheclip info clipart
    """
    from cacheclip.store.about import about
    from cacheclip.store.home import Home

    features = Home.resolve(home).find(dataset, model, pretrained)
    output.talk(*features.notices)
    described = about(features)
    if as_json:
        output.data(described)
        return
    for name, value in described.items():
        lines = output.lines(value)
        output.say(f"{name:12} {lines[0]}")
        for line in lines[1:]:
            output.say(f"{'':12} {line}")
