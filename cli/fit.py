"""`cacheclip fit`: one classifier from the cache, with its accuracy and a bundle."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cacheclip.cli import options, output
from cacheclip.methods import DEFAULT, DEFAULT_WITHOUT_TEXT, names

if TYPE_CHECKING:
    from cacheclip.draws import Fewer, Shots


@click.command("fit")
@click.option("--dataset", metavar="NAME", help="Data set. [default: the one extracted last]")
@options.model
@options.pretrained
@options.aux
@click.option(
    "--method",
    metavar="NAME",
    help=f"{', '.join(names())}; `cacheclip methods NAME` says more. [default: {DEFAULT}, or "
    f"{DEFAULT_WITHOUT_TEXT} where the set has no text]",
)
@click.option(
    "--shots",
    metavar="K|all",
    callback=options.shots,
    default="16",
    show_default=True,
    help="Support pictures a class; all: every training picture.",
)
@options.fewer
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of the draw of support pictures.",
)
@click.option(
    "--init-seed",
    type=click.IntRange(0),
    help="Of the start and of the order of data. [default: --seed]",
)
@options.classes
@options.select
@options.draw
@options.recipe
@options.settings
@options.max_memory
@click.option(
    "--final",
    is_flag=True,
    help="After the test, fit anew on train, val and test with the settings chosen; that bundle "
    "has no test of its own. Best with --shots all.",
)
@click.option("--out", type=options.FilePath(dir_okay=False), help="Bundle file, NAME.safetensors.")
@options.keep
@options.per_class
@click.option(
    "--explain-choice",
    is_flag=True,
    help="What was tried, how it did on the pictures that chose, and what zero-shot gives.",
)
@options.home
@options.results
@options.as_json
def command(
    dataset: str | None,
    model: str | None,
    pretrained: str | None,
    aux: str | None,
    method: str | None,
    shots: "Shots",
    fewer: "Fewer",
    seed: int,
    init_seed: int | None,
    classes: tuple[str, ...],
    select: str | None,
    draw: str | None,
    recipe: str | None,
    settings: dict[str, Any],
    max_memory: int | None,
    final: bool,
    out: Path | None,
    keep: Literal["logits"] | None,
    per_class: bool,
    explain_choice: bool,
    home: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Fit one method on a few-shot draw, test it, and leave a bundle for predict.

    Example: cacheclip fit --shots 16
    """
    from cacheclip.store.auxiliary import with_aux
    from cacheclip.store.home import Home
    from cacheclip.store.results_place import results_home
    from cacheclip.store.schema import IMPORTED

    place = Home.resolve(home)
    first = place.find(dataset, model, pretrained)  # before torch is paid for
    features = with_aux(place, first, aux)
    written, notices = results_home(place, results)
    output.talk(*features.notices, *notices)
    from cacheclip.answers import predictions
    from cacheclip.study import choice, fit_table
    from cacheclip.study.compare import Request
    from cacheclip.study.fit import fit
    from cacheclip.study.per_class import report, tables
    from cacheclip.study.table import ORACLE

    method = method or (DEFAULT if features.text else DEFAULT_WITHOUT_TEXT)
    request = Request(
        methods=(method,),
        shots=(shots,),
        fewer=fewer,
        seeds=(seed,),
        select=select,
        settings=settings,
        recipe=recipe,
        max_memory=max_memory,
        draw=draw,
        keep=keep,
        classes=classes,
        init_seeds=() if init_seed is None else (init_seed,),
    )
    with output.progress() as advance:
        fitted = fit(request, features, written, out, partial(advance, "runs"), output.talk, final)
    row = fitted.row
    found: dict[str, Any] = {}
    if per_class:
        found = report(predictions(written, row.row_id), fitted.classnames)
    if explain_choice:
        found |= {"choice": fitted.choice.as_json() if fitted.choice else None}
    if as_json:
        bundle = {"bundle": str(fitted.bundle) if fitted.bundle else None}
        output.data(row.as_json() | bundle | ({"final": fitted.final} if final else {}) | found)
    else:
        output.table(*fit_table.table(fitted))
        for title, cells in tables(found) if per_class else ():
            output.table(*cells, title)
        if explain_choice and fitted.choice:
            output.table(*choice.table(fitted.choice), choice.title(fitted.choice))
        output.talk(*fit_table.notes(fitted))
        if explain_choice:
            output.talk(*choice.sentences(fitted.choice, row))
    if fitted.final:
        output.talk(
            f"final: this bundle learned from all {fitted.final} labelled pictures, test included; "
            "it has no test of its own, and the accuracy is that of the fit before"
        )
    if fitted.bundle:
        output.talk(f"bundle: {fitted.bundle}")
        imported = features.encoder["library"] == IMPORTED
        asked = "--features FILE.npz" if imported else "IMAGE_OR_FOLDER"
        asked = f"--on {shlex.quote(row.dataset)}" if len(row.encoders) > 1 else asked
        output.talk(f"next: cacheclip predict {shlex.quote(str(fitted.bundle))} {asked}")
    elif row.select == ORACLE:
        output.talk("tuned on the test pictures: no result of a method, so it leaves no bundle")
    else:
        output.talk(f"{method} answers for a whole test set or stream, so it leaves no bundle")
