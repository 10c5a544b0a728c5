"""Composes pictures of several drawings, with the class of every pixel known.

The drawings are `clipart`'s, on which neither encoder was trained. White that reaches a drawing's
frame is its background; the rest of it, white or not, is the thing.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

ASSETS = Path("cacheclip/assets/clipart")
SIDE, CELLS = 256, 2
THINGS = 3
SMALLEST = 80
WHITE = 245
BACKGROUND = -1


@dataclass(frozen=True)
class Drawing:
    """A drawing and what of it is the thing.

    Attributes:
        pixels: [96, 96, 3] uint8.
        mask: [96, 96] bool.
        label: Its class.
    """

    pixels: np.ndarray
    mask: np.ndarray
    label: int


@dataclass(frozen=True)
class Scene:
    """A composed picture.

    Attributes:
        pixels: [256, 256, 3] uint8.
        labels: [256, 256] int64, the class of each pixel or `BACKGROUND`.
    """

    pixels: np.ndarray
    labels: np.ndarray


def thing(pixels: np.ndarray) -> np.ndarray:
    """Gives [h, w] bool: all but the white that is joined to the frame."""
    regions, _ = ndimage.label((pixels >= WHITE).all(axis=2))
    frame = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    return ~np.isin(regions, np.unique(frame[frame > 0]))


def read_drawings(split: str) -> tuple[list[Drawing], list[str]]:
    """Gives the drawings of a split of `clipart`, and the names of the classes."""
    data = json.loads((ASSETS / "clipart.json").read_text())
    drawings = []
    with zipfile.ZipFile(ASSETS / "images.zip") as archive:
        for record in data["images"]:
            if record["split"] == split:
                file = io.BytesIO(archive.read(record["id"]))
                pixels = np.asarray(Image.open(file).convert("RGB"))
                drawings.append(Drawing(pixels, thing(pixels), record["label"]))
    return drawings, data["classes"]


def compose(drawings: list[Drawing], rng: np.random.Generator) -> Scene:
    """Gives a scene of drawings of different classes, each in a cell of its own.

    Args:
        drawings: To choose from.
        rng: Where drawings, cells, sizes, places and the ground's pale colour are drawn from.
    """
    pixels = np.broadcast_to(rng.integers(215, 256, 3), (SIDE, SIDE, 3)).astype(np.uint8)
    labels = np.full((SIDE, SIDE), BACKGROUND)
    cell = SIDE // CELLS
    taken: set[int] = set()
    for place in rng.permutation(CELLS * CELLS)[:THINGS]:
        allowed = [drawing for drawing in drawings if drawing.label not in taken]
        drawing = allowed[rng.integers(len(allowed))]
        taken.add(drawing.label)
        side = int(rng.integers(SMALLEST, cell + 1))
        top, left = np.array(divmod(place, CELLS)) * cell + rng.integers(cell - side + 1, size=2)
        size = (side, side)
        image = Image.fromarray(drawing.pixels).resize(size, Image.Resampling.BICUBIC)
        mask = np.asarray(Image.fromarray(drawing.mask).resize(size, Image.Resampling.NEAREST))
        there = np.s_[top : top + side, left : left + side]
        pixels[there][mask] = np.asarray(image)[mask]
        labels[there][mask] = drawing.label
    return Scene(pixels, labels)


def compose_scenes(drawings: list[Drawing], count: int, seed: int) -> list[Scene]:
    """Gives the scenes of a seed."""
    rng = np.random.default_rng(seed)
    return [compose(drawings, rng) for _ in range(count)]
