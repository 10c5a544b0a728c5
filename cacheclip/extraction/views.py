"""Views of a picture as training sees it: a part of it at random, perhaps mirrored.

The recipe is that of Tip-Adapter and those who follow it: half of the picture's area or more,
sides as 3 to 4 at most, bicubic, mirrored half of the time. A view depends on the picture's id and
its own number alone, so neither the order of the work nor the count of views changes it.
"""

import hashlib
import math
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

SCALE = (0.5, 1.0)  # share of the area
RATIO = (3 / 4, 4 / 3)  # width to height
FLIP = 0.5
SEED = 1
ATTEMPTS = 10

Box = tuple[int, int, int, int]


def recipe(views: int) -> dict[str, Any]:
    """What the key of a store of so many views says of them."""
    return {
        "n": views,
        "recipe": "resized-crop-flip",
        "scale": list(SCALE),
        "ratio": list(RATIO),
        "interpolation": "bicubic",
        "flip": FLIP,
        "seed": SEED,
    }


def view(picture: "Image.Image", size: tuple[int, int], sample: str, number: int) -> "Image.Image":
    """One view of a picture; number 0 is the picture as it is.

    Args:
        picture: in RGB.
        size: width and height of all other views.
        sample: the picture's id.
        number: which view.
    """
    from PIL import Image

    if number == 0:
        return picture
    seed = hashlib.sha256(f"{SEED}\n{number}\n{sample}".encode()).digest()
    chance = random.Random(int.from_bytes(seed[:8], "big"))
    cropped = picture.crop(_box(*picture.size, chance)).resize(size, Image.Resampling.BICUBIC)
    mirrored = chance.random() < FLIP
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cropped


def _box(width: int, height: int, chance: random.Random) -> Box:
    """A part of a picture of random area and shape, where one is found that fits into it."""
    for _ in range(ATTEMPTS):
        area = width * height * chance.uniform(*SCALE)
        ratio = math.exp(chance.uniform(*map(math.log, RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = chance.randint(0, width - w), chance.randint(0, height - h)
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * RATIO[1])))  # the largest in the middle
    h = min(height, max(1, round(width / RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
