"""`cacheclip predict`: what a fitted bundle says of pictures, or of features."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cacheclip.cli import options, output
from cacheclip.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cacheclip.bundle import Bundle
    from cacheclip.inference.answer import Answer, Tally

STDIN = Path("-")
BLOCK = 4096  # answers that are printed together
STEP = 32  # answers between two looks at the bar


@click.command("predict")
@click.argument("bundle", type=options.FilePath())
@click.argument("images", type=options.FilePath(), nargs=-1)
@click.option(
    "--features",
    type=options.FilePath(dir_okay=False),
    metavar="FILE",
    help="Features in place of pictures: .npy [N, D], or .npz as `import` takes it.",
)
@click.option(
    "--on",
    metavar="SET[/SPLIT]",
    help="The cached features of a data set, or of its split train, val or test.",
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes named.")
@click.option("--raw", is_flag=True, help="Scores of the method in place of probabilities.")
@click.option("--csv", "in_csv", is_flag=True, help="Print a table with commas.")
@click.option(
    "--context",
    type=options.FilePath(file_okay=False),
    metavar="FOLDER",
    help="Labelled pictures, FOLDER/CLASS/*, beside which a bundle of incpl-like moves visual "
    "prompts of each picture's own: slow.",
)
@options.model
@options.pretrained
@click.option(
    "--fetch", is_flag=True, help="Fetch a model hf-hub:ORG/NAME that the bundle names, if need be."
)
@options.home
@options.as_json
def command(
    bundle: Path,
    images: tuple[Path, ...],
    features: Path | None,
    on: str | None,
    top: int,
    raw: bool,
    in_csv: bool,
    context: Path | None,
    model: str | None,
    pretrained: str | None,
    fetch: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Classify IMAGES, files or folders, with the BUNDLE that fit left.

    "-" reads paths from the standard input, one a line. Pictures are turned upright, unless the
    bundle's own folder was extracted as stored, and go through the encoder that the bundle names;
    another one is refused. --model local-dir:PATH and --pretrained FILE say where it lies now. What
    is fetched unasked is in open_clip's own catalogue; other models of the hub take --fetch.

    --features and --on answer for features that were encoded before, and open no picture. The rows
    of --features must be the bundle's encoder's; labels, sample_ids and split of a .npz are used.

    Read are regular files of up to 1 GiB and 134 megapixels; the largest takes 3.1 GB to decode.

    Where folders are named like the classes, or rows have labels, the accuracy is told too.

    Exit code: 0 if any picture was answered, with a line on those that were not; 3 if none was.

    \b
    Examples: cacheclip predict bundle.safetensors photos/
              cacheclip predict bundle.safetensors --on clipart/test
              cacheclip predict bundle.safetensors --features new.npz --csv
              find photos -name "*.jpg" | cacheclip predict bundle.safetensors - --csv
    """  # noqa: D301
    if in_csv and as_json:
        raise click.UsageError("--csv and --json do not go together")
    if (len(images) > 0) + (features is not None) + (on is not None) != 1:
        raise click.UsageError("give IMAGES, --features FILE or --on SET: one of the three")
    if context is not None and not images:
        raise click.UsageError("--context is for IMAGES: features were made without prompts")
    if (fetch and not images) or (features is not None and (model or pretrained)):
        raise click.UsageError("no encoder runs, so there is none to name or fetch")
    from cacheclip.bundle import Bundle

    head = Bundle.read(bundle)
    if features is not None:
        asked = _of_file(head, features, top, raw=raw)
    elif on is not None:
        asked = _of_cache(head, on, home, model, pretrained, top, raw=raw)
    else:
        where = Where(model, pretrained, fetch=fetch)
        asked = _of_pictures(head, images, context, where, top, raw=raw)
    form = "json" if as_json else "csv" if in_csv else "table"
    printer = Printer(form, asked, min(top, len(head.classnames)), raw=raw)
    tallies = _print(asked, head.classnames, printer)
    failed = sum(tally.failed for tally in tallies.values())
    if failed:
        output.talk(f"{failed:,} of {asked.count:,} {asked.what} could not be {asked.handled}")
    for split, tally in tallies.items():
        output.talk(*asked.accuracy(tally, split))
    if failed == asked.count:
        sys.exit(InputError.exit_code)


@dataclass(frozen=True)
class Where:
    """Where the bundle's encoder lies now, as it was said, and whether it may be fetched."""

    model: str | None
    pretrained: str | None
    fetch: bool


@dataclass(frozen=True)
class Asked:
    """What is to be answered.

    Attributes:
        answers: one a picture or row, computed when it is asked for.
        count: how many there will be.
        labelled: whether any has a label.
        accuracy: the lines on the answers of a split.
        splits: whether they are of splits.
        what: what the answers are for.
        handled: what becomes of one that has an answer.
    """

    answers: "Iterator[Answer]"
    count: int
    labelled: bool
    accuracy: "Callable[[Tally, str | None], Iterable[str]]"
    splits: bool = False
    what: str = "rows"
    handled: str = "answered"


def _of_pictures(
    head: "Bundle",
    images: tuple[Path, ...],
    context: Path | None,
    where: Where,
    top: int,
    *,
    raw: bool,
) -> Asked:
    from cacheclip.datasets.listing import find
    from cacheclip.inference.answer import label_of
    from cacheclip.inference.in_context import InContext
    from cacheclip.inference.pictures import open_encoder, open_second, predict

    found, missed = find(_from_stdin(images))
    output.talk(*([missed] if missed else []))
    encoder = open_encoder(head, where.model, where.pretrained, fetch=where.fetch)
    second = open_second(head, fetch=where.fetch)
    labels = [label_of(picture.folders, head.classnames) for picture in found]
    paths = [picture.path for picture in found]
    if context is None:
        answers = predict(head, encoder, paths, top, raw=raw, second=second)
    else:
        answers = InContext(head, encoder, context).predict(paths, top, raw=raw)
    return Asked(
        answers=(replace(one, label=label) for one, label in zip(answers, labels, strict=True)),
        count=len(found),
        labelled=any(labels),
        accuracy=lambda tally, split: tally.lines(
            "pictures in folders named like classes",
            "in no such folder",
            "no test of pictures that it learned from",
        ),
        what="pictures",
        handled="read",
    )


def _of_file(head: "Bundle", features: Path, top: int, *, raw: bool) -> Asked:
    from cacheclip.exchange.features_file import FeaturesFile
    from cacheclip.inference.given import given_rows
    from cacheclip.inference.rows import predict_rows

    file = FeaturesFile.open(features)
    return Asked(
        answers=predict_rows(head, given_rows(head, file), top, raw=raw),
        count=file.count,
        labelled="labels" in file.beside,
        splits="split" in file.beside,
        accuracy=lambda tally, split: tally.lines(
            "labelled rows" + (f" of split {split}" if split else ""),
            "without a label",
            "no test of rows that it learned from",
        ),
    )


def _of_cache(
    head: "Bundle",
    on: str,
    home: Path | None,
    model: str | None,
    pretrained: str | None,
    top: int,
    *,
    raw: bool,
) -> Asked:
    from cacheclip.inference.cached import cached_rows, find_cached, learned_from
    from cacheclip.inference.rows import predict_rows
    from cacheclip.store.home import Home

    cached = find_cached(head, Home.resolve(home), on, model, pretrained)
    output.talk(*cached.notices)

    def accuracy(tally: "Tally", split: str | None) -> "Iterable[str]":
        learned = learned_from(head, cached.features, split or "")
        caution = "the bundle learned from this split" if learned else ""
        return tally.lines(f"labelled rows of split {split}", "without a label", caution)

    return Asked(
        answers=predict_rows(head, cached_rows(head, cached), top, raw=raw),
        count=cached.count,
        labelled=True,
        splits=True,
        accuracy=accuracy,
    )


def _print(
    asked: Asked, classnames: Sequence[str], printer: "Printer"
) -> "dict[str | None, Tally]":
    """Print the answers as they come, and count them split by split."""
    from cacheclip.inference.answer import Tally

    tallies: dict[str | None, Tally] = {}
    block: list[Answer] = []
    done = 0
    with output.progress(beside=asked.count > BLOCK) as advance:
        for answer in asked.answers:
            if len(block) == BLOCK:
                printer.add(block)
                block = []
            block.append(answer)
            if answer.split not in tallies:
                tallies[answer.split] = Tally(classnames)
            tallies[answer.split].add(answer)
            done += 1
            if done % STEP == 0:
                advance(asked.what, done, asked.count)
    printer.add(block, last=True)
    return tallies


class Printer:
    """Prints answers in one form, some at a time."""

    def __init__(self, form: str, asked: Asked, ranks: int, *, raw: bool) -> None:
        from cacheclip.inference import answer

        self._form = form
        self._ranks = ranks
        self._value = answer.SCORE if raw else answer.PROBABILITY
        self._labelled = asked.labelled
        self._splits = asked.splits
        self._table = output.Table(answer.table_head(self._value))
        self._first = True

    def add(self, answers: "Sequence[Answer]", *, last: bool = False) -> None:
        """Print some more."""
        from cacheclip.inference.answer import csv_head, csv_rows, json_rows, table_rows

        if self._form == "table":
            self._table.add(table_rows(answers))
        elif self._form == "csv":
            head = csv_head(self._ranks, self._value, splits=self._splits) if self._first else ""
            output.text(head + csv_rows(answers, self._ranks, splits=self._splits))
        else:
            lines = json_rows(answers, self._value, labelled=self._labelled)
            output.text(("[\n" if self._first else "") + lines + ("\n]" if last else ","))
        self._first = False


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
