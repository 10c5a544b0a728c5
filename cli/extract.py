"""`cacheclip extract`: stage one, the frozen encoder once over a data set."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("extract")
@click.option(
    "--dataset", required=True, metavar="NAME|FOLDER|CSV", help="Data set, class folders or table."
)
@click.option("--name", "alias", help="Name for your own data set. [default: the folder's own]")
@click.option(
    "--classes-from",
    type=click.Choice(["top", "leaf"]),
    help="Which folders are classes where they hold folders alone.",
)
@options.model
@options.pretrained
@click.option(
    "--preprocess-from", metavar="TAG|JSON", help="Preprocessing that fits a weights file."
)
@click.option(
    "--data-root",
    type=options.FilePath(file_okay=False),
    default=Path("data"),
    show_default=True,
    envvar="CACHECLIP_DATA",
    show_envvar=True,
    help="Folder that holds food-101 and the like.",
)
@click.option("--download", is_flag=True, help="Fetch the data set where it is missing.")
@click.option(
    "--template",
    metavar="FAMILY|FILE",
    help="Prompt templates, or JSON {class: sentences}. [default: the set's]",
)
@click.option(
    "--sentences",
    metavar="FILE|SET",
    help="Keep beside the templates: JSON {class: sentences}, or clipart, whose own ship; cupl "
    "reads them, ape and timo read both.",
)
@click.option(
    "--classnames",
    type=options.FilePath(dir_okay=False),
    metavar="FILE",
    help="Names for the classes: a line each in their order, or JSON {folder: name}.",
)
@click.option("--device", metavar="cpu|cuda", help="[default: the GPU where there is one]")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="[default: fp32 on a CPU; on a GPU fp16, or bf16 where that overflows]",
)
@click.option("--batch-size", type=click.IntRange(1), help="Pictures encoded at once.")
@click.option(
    "--rows-per-shard",
    type=click.IntRange(1),
    help="Pictures a file; an interrupt loses one. [default: 1/16 of a split, 256 to 8192]",
)
@click.option(
    "--max-failures",
    metavar="N|P%",
    help="Bad pictures allowed. [default: 0.1%, own folders 1%, at least one]",
)
@click.option("--retry-failed", is_flag=True, help="Try the pictures again that failed before.")
@click.option("--hash-files", is_flag=True, help="Notice replaced pictures by their content.")
@click.option(
    "--orientation",
    type=click.Choice(["exif", "as-stored"]),
    help="Own pictures: turned upright by their EXIF tag, or left as they are. [default: exif]",
)
@click.option(
    "--white-level",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Own pictures of 16 bits: the level that is white, 4095 for 12 bits. [default: 65535]",
)
@click.option(
    "--layers",
    metavar="NAME[,NAME]",
    callback=lambda ctx, param, value: _layers(value),
    help="Keep more: text-tower, which methods that learn prompts read (0.1 to 0.5 GB; nano 2 MB); "
    "patches, the features of the parts of each picture (0.1 to 0.4 MB a picture), which calip "
    "reads.",
)
@click.option(
    "--views",
    type=click.IntRange(2, 1000),
    metavar="N",
    help="Of each training picture, features of N views: itself, and random crops, half of them "
    "mirrored. Methods with a setting views read them.",
)
@click.option(
    "--regions",
    type=options.FilePath(dir_okay=False),
    metavar="FILE",
    help="Features of boxes instead of whole pictures: COCO's JSON with `proposals`; --dataset is "
    "the folder of the pictures.",
)
@click.option(
    "--pool",
    type=click.Choice(["crops", "patches"]),
    help="A box is cut out and encoded at two scales, or gets the mean of the picture's places. "
    "[default: crops]",
)
@options.home
@options.as_json
def command(home: Path | None, as_json: bool, **request: object) -> None:
    """Encode a data set's pictures and prompts once, into stores that everything else reads.

    What is there already is not encoded again; a run that was cut short goes on.

    Read are regular files of up to 1 GiB and 134 megapixels. Decoding takes up to 0.4 GB a core;
    pictures over 24 megapixels are decoded one at a time, 16 to 23 bytes a pixel, 3.1 GB at most.

    \b
    Examples: cacheclip extract --dataset clipart
              cacheclip extract --dataset ~/photos/birds
              cacheclip extract --dataset ~/photos/labels.csv
              cacheclip extract --dataset food101 --download
    """  # noqa: D301
    from cacheclip.extraction.plan import ExtractRequest
    from cacheclip.extraction.run import run
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    with output.progress() as advance:
        asked = ExtractRequest(**request)  # type: ignore[arg-type]
        report = run(asked, place, advance, output.talk)
    if as_json:
        output.data(report.as_json())
        return
    noun = "pictures" if asked.regions is None else "boxes"
    output.say(
        f"{report.dataset}, {report.model} {report.pretrained}: {report.encoded:,} {noun} "
        f"encoded, {report.reused:,} were there, {report.failed:,} failed, {report.seconds:.1f} s"
    )
    if asked.regions is not None:
        command = f"detect --train {report.dataset} --test SET"
        output.talk(f"home: {place.root}", f"next: cacheclip {command}{place.option}")
        return
    shots = min(16, place.labels(report.dataset).smallest_class("train"))
    command = f"fit --shots {shots}" if shots else "compare --methods zero-shot"
    output.talk(f"home: {place.root}", f"next: cacheclip {command}{place.option}")


def _layers(value: str | None) -> tuple[str, ...]:
    from cacheclip.store.schema import EXTRA

    names = options.names_of(value)
    for name in names:
        if name not in EXTRA:
            raise click.BadParameter(f"{name!r} is none of {', '.join(EXTRA)}")
    return names
