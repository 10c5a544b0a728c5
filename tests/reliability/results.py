"""What comparisons and `predict` make of rows, predictions, draws and bundles."""

import json
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from cacheclip.answers import predictions
from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.results import LOG
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit
from cacheclip.task import Query, unit
from tests.reliability.world import DIM, SAID, Reading, World

ASKED = Request(("nearest-mean",), (1, 2), (1, 2), select="fixed", floor=("zero-shot",))
TIMES = ("seconds", "stack_seconds", "stack_size", "time")  # of a row that is made again


def compared(world: World) -> None:
    """With the rows of a comparison, what they answered, and their draws."""
    _compare(world, ASKED)


def fitted(world: World) -> None:
    """With a bundle of every kind of method."""
    for method in ("nearest-mean", "tip-adapter"):
        fit(Request((method,), (1,), select="fixed"), world.home.find(), world.home)


def rows(world: World) -> Reading:
    """The same comparison again: its rows, and what each of them answered."""
    found, said = _compare(world, ASKED)
    answers = [str(predictions(world.home, row["row_id"])) for row in found]
    return Reading([found, answers], said)


def drawn(world: World) -> Reading:
    """The records of the draws, once other rows of them were made."""
    other = Request(("linear-probe",), (1, 2), (1, 2), select="fixed", on_existing="redo")
    _, said = _compare(world, other)
    return Reading([file.read_bytes() for file in world.files("draws/*.json")], said)


def classified(world: World) -> Reading:
    """What bundles say of some pictures."""
    x = unit(torch.randn(20, DIM, generator=torch.Generator().manual_seed(0)))
    bundles = [Bundle.read(file) for file in world.kept if file.parent.name == "bundles"]
    logits = [Classifier(bundle).logits(Query({"image": x})) for bundle in bundles]
    about = [[repr(getattr(b, f.name)) for f in fields(b)] for b in bundles]
    return Reading([about, [_plain(x.numpy()) for x in logits]])


def _plain(x: Any) -> Any:
    return x.tolist() if isinstance(x, np.ndarray) else x


def _compare(world: World, request: Request) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The rows of a comparison, those made now without what differs, and what was said."""
    comparison = Comparison(request, world.home.find(), world.home)
    said = [*comparison.notices]
    made = [row.row_id for _, row in comparison.run(notice=said.append)]
    found = [row.as_json() for row in comparison.rows]
    kept = _kept(world)
    for row in found:
        if row["row_id"] in made:
            row |= {name: kept.get(row["row_id"], row)[name] for name in TIMES}
    return found, tuple(line for line in said if SAID.search(line))


def _kept(world: World) -> dict[str, dict[str, Any]]:
    """The rows of the log as it was."""
    logs = [data for file, data in world.kept.items() if file.name == LOG]
    lines = [json.loads(line) for data in logs for line in data.splitlines()]
    return {line["row_id"]: line for line in lines}
