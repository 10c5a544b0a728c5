"""`cacheclip transfer`: a bundle of one set's classes from a bundle of another's, untrained."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cacheclip.cli import options, output

if TYPE_CHECKING:
    from cacheclip.draws import Fewer, Shots
    from cacheclip.study.score import Scores


@click.command("transfer")
@click.argument("bundle", type=options.FilePath(dir_okay=False))
@click.option("--dataset", metavar="NAME", required=True, help="Whose classes it is to serve.")
@click.option(
    "--shots",
    metavar="K|all",
    callback=options.shots,
    default="16",
    show_default=True,
    help="Support pictures a class, where the method reads them.",
)
@options.fewer
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of their draw.")
@options.classes
@click.option(
    "--out",
    type=options.FilePath(dir_okay=False),
    required=True,
    help="Bundle file, NAME.safetensors.",
)
@options.home
@options.as_json
def command(
    bundle: Path,
    dataset: str,
    shots: "Shots",
    fewer: "Fewer",
    seed: int,
    classes: tuple[str, ...],
    out: Path,
    home: Path | None,
    as_json: bool,
) -> None:
    """Serve the classes of another data set by what a bundle's fit learned; nothing is trained.

    The method's head is made anew of their text and, where it reads them, of their shots. The test
    pictures of the set are answered too, and no row is logged.

    Example: cacheclip transfer BUNDLE --dataset digits --out digits.safetensors
    """
    from cacheclip.bundle import SUFFIX, Bundle, is_bundle
    from cacheclip.files.places import refuse_place
    from cacheclip.store.home import Home
    from cacheclip.store.schema import IMPORTED
    from cacheclip.store.scope import scoped

    refuse_place(out, "--out", (SUFFIX, ""), is_bundle)
    own = Bundle.read(bundle)
    tag = None if own.encoder["library"] == IMPORTED else own.encoder["pretrained"]
    features = Home.resolve(home).find(dataset, own.encoder["name"], tag)
    output.talk(*features.notices)
    from cacheclip.study.table import percent
    from cacheclip.study.transfer import transfer

    made = transfer(own, scoped(features, classes), shots, seed, fewer)
    made.bundle.write(out)
    top1 = float(made.scores.top1[0]) if made.scores else None
    told = {
        "bundle": str(out),
        "method": own.method,
        "learned_dataset": own.provenance.get("dataset"),
        "eval_dataset": features.dataset,
        "n_classes": len(made.bundle.classnames),
        "eval_draw_id": made.draw.draw_id if made.draw else None,
        "n_test": len(made.scores.label) if made.scores else 0,
        "top1_test": top1,
        "zero_shot_test": _zero_shot(made.scores),
    }
    if as_json:
        output.data(told)
        return
    headers = ["data set", "classes", "method", "test accuracy", "zero-shot", "test pictures"]
    figures = [percent(top1), percent(_zero_shot(made.scores)), str(told["n_test"])]
    line = [features.dataset, str(told["n_classes"]), own.method, *figures]
    output.table(headers, [line])
    output.talk(f"bundle: {out}")
    output.talk(f"next: cacheclip predict {shlex.quote(str(out))} IMAGE_OR_FOLDER")


def _zero_shot(scores: "Scores | None") -> float | None:
    """What the text alone gets right of the same pictures."""
    if scores is None or scores.zero_shot is None:
        return None
    return float((scores.zero_shot == scores.label).mean())
