"""`cacheclip import`: anyone's arrays as a feature set."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("import")
@click.argument("file", type=options.FilePath(), metavar="FILE.npz")
@click.option("--name", help="Name of the data set, npz/NAME. [default: the file's own]")
@click.option(
    "--logit-scale",
    type=click.FloatRange(0, min_open=True),
    help="Of text features in a file that lacks it: 100 for OpenAI's CLIP.",
)
@options.home
@options.as_json
def command(
    file: Path, name: str | None, logit_scale: float | None, home: Path | None, as_json: bool
) -> None:
    """Bring in features that you computed elsewhere, as arrays of a .npz file.

    \b
    features       [N, D]  floats, raw or unit rows; float16 stays float16
    labels         [N]     whole numbers from 0 to C - 1, or class names
    split          [N]     train, val or test
    text_features  [C, D]  or [C, T, D] of T prompts; without it, methods run that need no text
    sentence_features      [C, S, D] of S sentences that describe each class, beside text
    logit_scale            with text: 100 for OpenAI's CLIP
    classnames     [C]     by default 0, 1, ..., or the labels that are names
    sample_ids     [N]     by default the row's number
    draw_SEED_K    [n]     rows of a support set that somebody published, K shots

    Instead of the first three also train_features, train_labels, test_features and so on.

    Example: cacheclip import features.npz --name birds
    """  # noqa: D301, click wants a real backspace before lines to leave as they are
    from cacheclip.exchange.import_npz import import_npz
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    with output.progress() as advance:
        report = import_npz(file, place, name, advance, logit_scale)
    output.talk(*report.notices)
    if as_json:
        output.data(report.as_json())
        return
    splits = ", ".join(f"{split} {rows:,}" for split, rows in report.splits.items())
    draws = f", {len(report.draws)} draws" if report.draws else ""
    output.say(
        f"{report.dataset}, {report.model} {report.pretrained}: {report.written:,} rows written, "
        f"{report.reused:,} were there ({splits}; {report.classes} classes, {report.dim} numbers "
        f"a row in {report.store_dtype}, {report.prompts or 'no'} texts a class{draws})"
    )
    output.talk(f"home: {place.root}", f"next: {report.next_command}{place.option}")
