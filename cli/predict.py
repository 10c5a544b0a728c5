"""`cacheclip predict`: what a fitted bundle says of pictures."""

import sys
from pathlib import Path

import click

from cacheclip.cli import options, output
from cacheclip.errors import InputError


@click.command("predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes named.")
@options.model
@options.pretrained
@options.as_json
def command(
    bundle: Path,
    images: tuple[Path, ...],
    top: int,
    model: str | None,
    pretrained: str | None,
    as_json: bool,
) -> None:
    """Classify IMAGES, files or folders, with the BUNDLE that fit left.

    Pictures go through the encoder that the bundle names; another one is refused. --model
    local-dir:PATH and --pretrained FILE say where it lies now.

    Example: cacheclip predict bundle.safetensors photos/
    """
    from cacheclip.bundle import Bundle

    head = Bundle.read(bundle)
    from cacheclip.predict import find_images, open_encoder, predict

    found = find_images(images)
    encoder = open_encoder(head, model, pretrained)
    answers = []
    with output.progress() as advance:
        for answer in predict(head, encoder, found, top):
            answers.append(answer)
            advance("pictures", len(answers), len(found))
    failed = [answer for answer in answers if answer.error]
    if failed:
        output.talk(f"{len(failed)} of {len(answers)} pictures could not be read")
    if as_json:
        output.data([answer.as_json() for answer in answers])
    else:
        output.table(
            ["image", "class", "probability", "then"],
            [
                [a.image, a.top[0][0], f"{a.top[0][1]:.3f}", output.ranked(a.top[1:])]
                if a.top
                else [a.image, "-", "-", a.error or ""]
                for a in answers
            ],
        )
    if len(failed) == len(answers):
        sys.exit(InputError.exit_code)
