"""What a fit leaves: a row, a bundle, predictions and a draw, made without one."""

from dataclasses import MISSING, asdict, fields
from typing import Any, get_type_hints

import numpy as np

from cacheclip import results
from cacheclip.answers import Answered, Predictions, curve, predictions, write_predictions
from cacheclip.bundle import Bundle
from cacheclip.draws import Draw, keep_draw
from cacheclip.files.disk import read_json
from cacheclip.results import Row
from tests.reliability.world import Reading, World

ROW_ID = "0123456789abcdef"
PICTURES = [f"test/{k}.png" for k in range(9)]
DRAW = Draw(
    shots=2,
    seed=1,
    support=(0, 1, 2, 3),
    support_labels=(0, 0, 1, 1),
    support_ids=("a", "b", "c", "d"),
    val=(4,),
    val_labels=(1,),
    val_ids=("e",),
)
CURVE = [{"hparams": {"alpha": 0.5}, "top1_val": 0.5, "nll_val": 0.7}]
VALUES: dict[Any, Any] = {str: "text", int: 3, float: 0.25, bool: False}


def rows() -> list[Row]:
    """Three rows with something in every field that has to have something."""
    kinds = get_type_hints(Row)
    due = [field.name for field in fields(Row) if field.default is MISSING]
    given: dict[str, Any] = {name: VALUES.get(kinds[name]) for name in due}
    given |= {"encoders": ["toy@v1"], "hparams": {"alpha": 0.5}, "stores": {"train/image": "k"}}
    given |= {"shots": 2, "draw_id": "d", "top1_test": 0.5, "curve": CURVE}
    return [Row(**given | {"seed": seed}) for seed in (1, 2, 3)]


def log(world: World) -> None:
    """Leave the rows, or those that are not there."""
    there = read_rows(world).answers
    results.append(world.home.root, [row for row in rows() if row.row_id not in there])
    assert len(read_rows(world).answers) == len(rows())


def read_rows(world: World) -> Reading:
    """A row that is not found is made again, so only others than the right ones would be wrong."""
    said: list[str] = []
    found = results.rows(world.home.root, {row.row_id for row in rows()}, said.append)
    right = all(row in rows() for row in found.values())
    lost = ("made anew",) if right and len(found) < len(rows()) else ()
    return Reading({name: asdict(row) for name, row in found.items()}, (*said, *lost))


def answer(world: World) -> None:
    """Leave predictions, with those of held-out pictures, and a curve."""
    held = Answered(**_said(4))
    answered = Predictions(**_said(9), ids=PICTURES, choice=held, calibration=held)
    write_predictions(world.home.root, ROW_ID, answered, CURVE, n_val=4)


def _said(n: int) -> dict[str, Any]:
    """What is kept of n pictures."""
    random = np.random.default_rng(0)
    return {
        "predicted": random.integers(0, 3, n).astype(np.uint16),
        "label": random.integers(0, 3, n).astype(np.uint16),
        "true_log_p": -random.random(n).astype(np.float16),
        "top_p": random.random(n).astype(np.float16),
        "true_rank": random.integers(0, 3, n).astype(np.uint16),
        "top": random.integers(0, 3, (n, 3)).astype(np.uint16),
        "top_log_p": -random.random((n, 3)).astype(np.float16),
        "raw_top_p": random.random(n).astype(np.float16),
        "logits": random.random((n, 3)).astype(np.float16),
    }


def answer_anew(world: World) -> None:
    """As `--on-existing redo` does once the damaged file is gone."""
    for file in world.home.root.glob("tests/*.json"):
        file.unlink()
    answer(world)


def read_answers(world: World) -> Reading:
    """What a row answered."""
    found = predictions(world.home, ROW_ID)
    arrays = [x for own in (found, found.choice, found.calibration) for x in vars(own).values()]
    told = [(x.dtype.str, x.tobytes()) for x in arrays if isinstance(x, np.ndarray)]
    return Reading([found.ids, told, curve(world.home, ROW_ID)])


def bundle(world: World) -> None:
    """Leave a bundle."""
    Bundle(
        method="tip-adapter",
        method_version=1,
        static={},
        hparams={"alpha": 1.0},
        layers=["image"],
        classnames=["ant", "bee"],
        encoder={"name": "nano", "logit_scale": 40.0},
        preprocess={"size": 128},
        provenance={"dataset": "clipart"},
        head={"weight": np.eye(2, 3, dtype=np.float32), "labels": np.arange(2)},
        temperature=1.5,
    ).write(world.home.root / "bundles/one.safetensors")


def read_bundle(world: World) -> Reading:
    """All that `predict` takes from a bundle."""
    found = Bundle.read(world.home.root / "bundles/one.safetensors")
    about = {name: value for name, value in asdict(found).items() if name != "head"}
    head = {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in found.head.items()}
    return Reading([about, head])


def draw(world: World) -> None:
    """Leave a draw, in the place of what is there."""
    for file in world.home.root.glob("draws/*"):
        file.unlink()
    keep_draw(world.home.root / "draws", DRAW, "toys")


def kept_draw(world: World) -> Reading:
    """A draw as it lies there once a fit has come by."""
    damaged = keep_draw(world.home.root / "draws", DRAW, "toys")
    (file,) = world.files("draws/*.json")
    content = read_json(file)
    told = {name: content.get(name) for name in ("support", "val", "shots", "seed", "dataset")}
    return Reading(told, ("made anew",) if damaged else ())
