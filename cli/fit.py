"""`cacheclip fit`: one classifier from the cache, with its accuracy and a bundle."""

import shlex
from functools import partial
from pathlib import Path

import click

from cacheclip.cli import options, output
from cacheclip.methods import names


@click.command("fit")
@click.option("--dataset", metavar="NAME", help="Data set. [default: the one extracted last]")
@options.model
@options.pretrained
@click.option(
    "--method",
    metavar="NAME",
    default="clip-adapter",
    show_default=True,
    help=f"{', '.join(names())}; `cacheclip methods NAME` says more.",
)
@click.option("--shots", type=click.IntRange(1), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the draw.")
@options.select
@options.recipe
@options.set_
@options.max_memory
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Bundle file, NAME.safetensors."
)
@options.home
@options.as_json
def command(
    dataset: str | None,
    model: str | None,
    pretrained: str | None,
    method: str,
    shots: int,
    seed: int,
    select: str | None,
    recipe: str | None,
    set_: tuple[str, ...],
    max_memory: int | None,
    out: Path | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Fit one method on a few-shot draw, test it, and leave a bundle for predict.

    Example: cacheclip fit --shots 16
    """
    from cacheclip.store.home import Home
    from cacheclip.store.schema import IMPORTED

    place = Home.resolve(home)
    features = place.find(dataset, model, pretrained)  # before torch is paid for
    output.talk(*features.notices)
    from cacheclip.study.compare import Request
    from cacheclip.study.fit import fit
    from cacheclip.study.table import line, settings

    request = Request(
        methods=(method,),
        shots=(shots,),
        seeds=(seed,),
        select=select,
        set=set_,
        recipe=recipe,
        max_memory=max_memory,
    )
    with output.progress() as advance:
        fitted = fit(request, features, place, out, partial(advance, "runs"), output.talk)
    row = fitted.row
    if as_json:
        output.data(row.as_json() | {"bundle": str(fitted.bundle) if fitted.bundle else None})
    else:
        output.table(*line(row))
        output.talk(f"settings: {settings(row)}")
    if fitted.bundle:
        output.talk(f"bundle: {fitted.bundle}")
    if fitted.bundle and features.encoder["library"] != IMPORTED:
        output.talk(f"next: cacheclip predict {shlex.quote(str(fitted.bundle))} IMAGE_OR_FOLDER")
    if not fitted.bundle:
        output.talk(f"{method} answers for a whole test set or stream, so it leaves no bundle")
