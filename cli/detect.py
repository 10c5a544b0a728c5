"""`cacheclip detect`: methods on cached regions, scored as detectors on base and novel classes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cacheclip.cli import options, output

if TYPE_CHECKING:
    from cacheclip.draws import Shots


@click.command("detect")
@click.option(
    "--train",
    metavar="SET[,SET]",
    callback=options.names,
    required=True,
    help="Sets of regions to learn from; cacheclip extract --regions makes them.",
)
@click.option(
    "--test",
    metavar="SET[,SET]",
    callback=options.names,
    required=True,
    help="Sets to be scored on, one for each of --train.",
)
@options.model
@options.pretrained
@click.option(
    "--methods",
    metavar="NAME[,NAME]",
    callback=options.names,
    default="zero-shot,linear-adapter",
    show_default=True,
    help="Methods that answer for classes without a box.",
)
@click.option(
    "--shots",
    metavar="K",
    callback=options.shots,
    default="16",
    show_default=True,
    help="Proposals of a class to learn from; all: every one that has a class.",
)
@click.option(
    "--rounds",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of self-training: proposals of which a fit is sure are learned from by the next.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least probability of a novel class that makes a proposal a pseudo-label.",
)
@click.option(
    "--background",
    type=click.Choice(["none", "learned"]),
    default="none",
    show_default=True,
    help="A class of what is nothing beside the others, or none.",
)
@options.settings
@options.max_memory
@options.home
@options.as_json
def command(
    train: tuple[str, ...],
    test: tuple[str, ...],
    model: str | None,
    pretrained: str | None,
    methods: tuple[str, ...],
    shots: "Shots",
    rounds: int,
    threshold: float,
    background: str,
    settings: dict[str, Any],
    max_memory: int | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Classify cached proposals, learning from boxes of base classes alone, and score all classes.

    Each pair of sets is one trial, and its number the seed of what is drawn and random in it. What
    is true of the pictures of --test is opened last. Average precision is pycocotools' own:
    pip install 'cacheclip[regions]'.

    Example: cacheclip detect --train scenes-1-train --test scenes-1-test
    """
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    from cacheclip.detection.precision import require
    from cacheclip.detection.pseudo import Rule
    from cacheclip.detection.request import Request, learners
    from cacheclip.detection.run import Protocol, Result, run
    from cacheclip.detection.scenes import matched
    from cacheclip.detection.sets import pairs
    from cacheclip.detection.table import notes, table

    require()
    request = Request(methods, settings, shots, background == "learned", max_memory)
    protocol = Protocol(rounds, Rule(threshold))
    results: list[Result] = []
    for seed, (learned, scored) in enumerate(pairs(place, train, test, model, pretrained), 1):
        output.talk(f"{learned.of.dataset}, {scored.of.dataset}:")
        known = matched(learned)
        chosen = learners(request, learned, known, seed, output.talk)
        results += run(learned, scored, known, chosen, protocol, output.talk)
    if as_json:
        output.data([own.as_json() for own in results])
        return
    output.table(*table(results))
    output.talk(*notes(results))
