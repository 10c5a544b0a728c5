"""`cacheclip info`: one feature set, in full."""

from collections import Counter
from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("info")
@click.argument("dataset", required=False)
@options.model
@options.pretrained
@click.option(
    "--near-duplicates",
    type=float,
    is_flag=False,
    flag_value=0.99,
    metavar="[COSINE]",
    help="List pairs across splits or classes whose features are that alike. [0.99]",
)
@options.home
@options.as_json
def command(
    dataset: str | None,
    model: str | None,
    pretrained: str | None,
    near_duplicates: float | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Show the feature set of DATASET: encoder, preprocessing, classes, splits, failures.

    \b
    Examples: cacheclip info clipart
              cacheclip info clipart --near-duplicates
    """  # noqa: D301
    from cacheclip.store import near
    from cacheclip.store.about import about
    from cacheclip.store.home import Home

    features = Home.resolve(home).find(dataset, model, pretrained)
    output.talk(*features.notices)
    described = about(features)
    if near_duplicates is not None:
        found = near.near_duplicates(features, near_duplicates)
        if not as_json:
            output.table(near.HEADERS, found.as_cells())
            output.talk(found.sentence)
            return
        described |= {"near_duplicates": found.as_json()}
    if as_json:
        output.data(described)
        return
    arrays = Counter(name.partition(".")[0] for name in described["parts"])
    described["parts"] = [f"{name} ({n} arrays)" if n > 1 else name for name, n in arrays.items()]
    for name, value in described.items():
        lines = output.lines(value)
        output.say(f"{name:12} {lines[0]}")
        for line in lines[1:]:
            output.say(f"{'':12} {line}")
