"""`cacheclip predict`: what a fitted bundle says of pictures."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from cacheclip.cli import options, output
from cacheclip.errors import InputError

STDIN = Path("-")


@click.command("predict")
@click.argument("bundle", type=options.FilePath())
@click.argument("images", type=options.FilePath(), nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes named.")
@click.option("--raw", is_flag=True, help="Scores of the method in place of probabilities.")
@click.option("--csv", "in_csv", is_flag=True, help="Print a table with commas.")
@options.model
@options.pretrained
@click.option(
    "--fetch", is_flag=True, help="Fetch a model hf-hub:ORG/NAME that the bundle names, if need be."
)
@options.as_json
def command(
    bundle: Path,
    images: tuple[Path, ...],
    top: int,
    raw: bool,
    in_csv: bool,
    model: str | None,
    pretrained: str | None,
    fetch: bool,
    as_json: bool,
) -> None:
    """Classify IMAGES, files or folders, with the BUNDLE that fit left.

    "-" reads paths from the standard input, one a line. Pictures are turned upright, unless the
    bundle's own folder was extracted as stored, and go through the encoder that the bundle names;
    another one is refused. --model local-dir:PATH and --pretrained FILE say where it lies now. What
    is fetched unasked is in open_clip's own catalogue; other models of the hub take --fetch.

    Read are regular files of up to 1 GiB and 134 megapixels; the largest takes 3.1 GB to decode.

    Where folders are named like the classes, the accuracy is told too.

    Exit code: 0 if any picture was answered, with a line on those that were not; 3 if none was.

    \b
    Examples: cacheclip predict bundle.safetensors photos/
              find photos -name "*.jpg" | cacheclip predict bundle.safetensors - --csv
    """  # noqa: D301
    if in_csv and as_json:
        raise click.UsageError("--csv and --json do not go together")
    from cacheclip.bundle import Bundle

    head = Bundle.read(bundle)
    from cacheclip.datasets.listing import find
    from cacheclip.predict import (
        PROBABILITY,
        SCORE,
        Answer,
        accuracy,
        as_csv,
        as_table,
        label_of,
        open_encoder,
        predict,
    )

    found, missed = find(_from_stdin(images))
    output.talk(*([missed] if missed else []))
    encoder = open_encoder(head, model, pretrained, fetch=fetch)
    paths = [picture.path for picture in found]
    answers: list[Answer] = []
    with output.progress() as advance:
        for answer in predict(head, encoder, paths, top, raw=raw):
            label = label_of(found[len(answers)].folders, head.classnames)
            answers.append(replace(answer, label=label))
            advance("pictures", len(answers), len(found))
    failed = [answer for answer in answers if answer.error]
    if failed:
        output.talk(f"{len(failed)} of {len(answers)} pictures could not be read")
    value = SCORE if raw else PROBABILITY
    if as_json:
        labelled = any(answer.label is not None for answer in answers)
        output.data([answer.as_json(value, labelled=labelled) for answer in answers])
    elif in_csv:
        output.text(as_csv(answers, value))
    else:
        output.table(*as_table(answers, value))
    output.talk(*accuracy(answers))
    if len(failed) == len(answers):
        sys.exit(InputError.exit_code)


def _from_stdin(paths: Sequence[Path]) -> list[Path]:
    """The paths, with those that the standard input lists in the place of "-"."""
    found: list[Path] = []
    for path in paths:
        if path == STDIN:
            lines = sys.stdin.buffer.read().splitlines()
            found += [Path(os.fsdecode(line)) for line in lines if line]
        else:
            found.append(path)
    return found
