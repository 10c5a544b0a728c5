"""Scenes to find things in: drawings of `clipart` on a coloured ground, with boxes and distractors.

All of it follows from a seed: pictures, annotations of what was pasted, and proposals as a detector
would give them, moved boxes of everything that stands there and of the ground. Training scenes are
of training drawings and annotate base classes alone; the other drawings stand there unannotated.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cacheclip.datasets import clipart
from cacheclip.datasets.base import DataSet, Request
from cacheclip.datasets.images import read_rgb

Box = tuple[float, float, float, float]  # left, top, width, height in pixels

NOVEL = ("clothing", "flag", "map", "plant", "vehicle")  # every fourth class by name
SIDE = 192  # of a scene
OBJECTS = (2, 5)  # in a scene
OBJECT_SIDE = (44, 88)  # the longer side of a drawing
DISTRACTORS = (2, 4)
PROPOSALS = 6  # moved boxes of one drawing
GROUND = 12  # boxes anywhere
LEAST_IOU = 0.3  # of a moved box
NOISE = 0.12  # of a proposal's score
OVERLAP = 0.1  # that two things in a scene may have
WHITE = 24  # levels below white that still are paper
TRIES = 200


@dataclass(frozen=True)
class Thing:
    """What stands in a scene: a class, or None of what has none, and its box."""

    label: int | None
    box: Box


def make_scenes(
    folder: Path,
    *,
    seed: int,
    train: int = 60,
    test: int = 60,
    novel: Sequence[str] = NOVEL,
) -> None:
    """Write `train.json`, `test.json` and their pictures, the same ones for the same seed.

    Args:
        folder: where to.
        seed: decides everything.
        train: scenes of training drawings.
        test: scenes of test drawings.
        novel: classes that `train.json` does not annotate.
    """
    drawings = clipart.load(Request("clipart", folder))
    for split, count in (("train", train), ("test", test)):
        chance = random.Random(f"{seed} {split}")
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        proposals: list[dict[str, Any]] = []
        for number in range(count):
            picture, things = _scene(drawings, split, chance)
            name = f"pictures/{split}-{number:04d}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(folder / name)
            size = {"width": picture.width, "height": picture.height}
            images.append({"id": number + 1, "file_name": name, **size})
            for thing in things:
                told = thing.label is not None and (
                    split == "test" or drawings.classnames[thing.label] not in novel
                )
                if told and thing.label is not None:
                    annotations.append(_annotation(len(annotations) + 1, number + 1, thing))
            proposals += [
                {"image_id": number + 1, "bbox": list(box), "score": score}
                for box, score in _proposals(things, chance)
            ]
        categories = [
            {"id": label + 1, "name": name, **({"novel": True} if name in novel else {})}
            for label, name in enumerate(drawings.classnames)
        ]
        content = {
            "images": images,
            "categories": categories,
            "annotations": annotations,
            "proposals": proposals,
        }
        (folder / f"{split}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _annotation(number: int, image: int, thing: Thing) -> dict[str, Any]:
    box = list(thing.box)
    return {
        "id": number,
        "image_id": image,
        "category_id": (thing.label or 0) + 1,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
    }


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0.0, across) * max(0.0, down)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def _scene(drawings: DataSet, split: str, chance: random.Random) -> tuple[Image.Image, list[Thing]]:
    """A picture, and what stands in it."""
    picture = _ground(chance)
    things: list[Thing] = []
    for _ in range(chance.randint(*DISTRACTORS)):
        size = (chance.randint(12, 48), chance.randint(12, 48))
        if (box := _place(size, things, chance)) is not None:
            _distract(picture, box, chance)
            things.append(Thing(None, box))
    samples = drawings.splits[split]
    labels = sorted(set(samples.labels))
    for _ in range(chance.randint(*OBJECTS)):
        label = chance.choice(labels)  # every class as often, however many drawings it has
        row = chance.choice([k for k, own in enumerate(samples.labels) if own == label])
        drawing, paper = _cut_out(read_rgb(drawings.open(split, row)), chance)
        if (box := _place(drawing.size, things, chance)) is not None:
            picture.paste(drawing, (round(box[0]), round(box[1])), paper)
            things.append(Thing(label, box))
    return picture, things


def _ground(chance: random.Random) -> Image.Image:
    """A light ground of two colours that run into each other, with some grain."""
    corners = [[chance.randint(170, 255) for _ in range(3)] for _ in range(2)]
    share = np.linspace(0, 1, SIDE)[:, None, None]
    if chance.random() < 0.5:
        share = share.transpose(1, 0, 2)
    levels = corners[0] * (1 - share) + corners[1] * share + np.zeros((SIDE, SIDE, 1))
    grain = np.random.default_rng(chance.getrandbits(32)).normal(0, 4, (SIDE, SIDE, 1))
    return Image.fromarray(np.clip(levels + grain, 0, 255).astype(np.uint8))


def _distract(picture: Image.Image, box: Box, chance: random.Random) -> None:
    """Draw something that is of no class."""
    left, top, width, height = box
    edges = (left, top, left + width, top + height)
    colour = (chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255))
    draw = ImageDraw.Draw(picture)
    kind = chance.choice(("ellipse", "rectangle", "lines"))
    if kind == "ellipse":
        draw.ellipse(edges, fill=colour)
    elif kind == "rectangle":
        draw.rectangle(edges, fill=colour)
    else:
        ends = [(left + chance.random() * width, top + chance.random() * height) for _ in range(8)]
        draw.line(ends, fill=colour, width=2)


def _cut_out(drawing: Image.Image, chance: random.Random) -> tuple[Image.Image, Image.Image]:
    """A drawing without the paper around it, at some size, and the mask of what is left."""
    marked = drawing.copy()
    colour = (255, 0, 254)
    for corner in ((0, 0), (drawing.width - 1, 0), (0, drawing.height - 1)):
        if min(marked.getpixel(corner)) > 255 - WHITE:  # type: ignore[arg-type]
            ImageDraw.floodfill(marked, corner, colour, thresh=WHITE)
    mask = Image.fromarray((np.asarray(marked) != colour).any(2).astype(np.uint8) * 255)
    content = mask.getbbox() or (0, 0, *drawing.size)
    scale = chance.randint(*OBJECT_SIDE) / max(content[2] - content[0], content[3] - content[1])
    size = [max(2, round((content[k + 2] - content[k]) * scale)) for k in (0, 1)]
    pasted = drawing.crop(content).resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return pasted, mask.crop(content).resize(pasted.size, Image.Resampling.BILINEAR)


def _place(size: tuple[int, int], things: Sequence[Thing], chance: random.Random) -> Box | None:
    """Where something of this size fits beside the others; None where it does not."""
    for _ in range(TRIES):
        left, top = (chance.randint(0, SIDE - side) for side in size)
        box = (float(left), float(top), float(size[0]), float(size[1]))
        if all(iou(box, thing.box) <= OVERLAP for thing in things):
            return box
    return None


def _proposals(things: Sequence[Thing], chance: random.Random) -> list[tuple[Box, float]]:
    """Boxes with scores, likeliest first: how well they fit what is there, and noise.

    What is of no class looks like a thing too, for a detector of things.
    """
    boxes = [
        moved(thing.box, chance.uniform(LEAST_IOU, 1), chance)
        for thing in things
        for _ in range(PROPOSALS)
    ]
    for _ in range(GROUND):
        width, height = chance.uniform(16, 110), chance.uniform(16, 110)
        left, top = chance.uniform(0, SIDE - width), chance.uniform(0, SIDE - height)
        boxes.append((left, top, width, height))
    scored = []
    for box in boxes:
        fit = max((iou(box, thing.box) for thing in things), default=0.0)
        score = min(0.99, max(0.01, 0.1 + 0.8 * fit + chance.gauss(0, NOISE)))
        left, top, width, height = (round(side, 2) for side in box)
        scored.append(((left, top, width, height), round(score, 4)))
    return sorted(scored, key=lambda one: -one[1])


def moved(box: Box, wanted: float, chance: random.Random) -> Box:
    """A box near this one, within the scene, whose overlap with it is as wanted, or nearly.

    Edges go off in directions at random; how far is found by halving.

    Args:
        box: the box.
        wanted: the IoU.
        chance: decides the directions.
    """
    directions = [chance.gauss(0, 1) for _ in range(4)]
    near, far = 0.0, 4.0
    found = box
    for _ in range(24):
        middle = (near + far) / 2
        left = max(0.0, box[0] + middle * directions[0] * box[2])
        top = max(0.0, box[1] + middle * directions[1] * box[3])
        right = min(float(SIDE), box[0] + box[2] + middle * directions[2] * box[2])
        bottom = min(float(SIDE), box[1] + box[3] + middle * directions[3] * box[3])
        tried = (left, top, right - left, bottom - top)
        if right - left < 2 or bottom - top < 2 or iou(box, tried) < wanted:
            far = middle
        else:
            near, found = middle, tried
    return found
