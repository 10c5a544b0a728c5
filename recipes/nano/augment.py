"""Changed views of a picture: moved, mirrored, recoloured, as silhouette or outline."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from recipes.nano.model import IMAGE_SIDE

STYLES = ("plain", "gray", "silhouette", "outline")
STYLE_SHARES = (0.7, 0.12, 0.08, 0.1)


def enlarge(image: Image.Image) -> Image.Image:
    """Gives the picture at the encoder's size, as its preprocessing makes it."""
    return image.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)


def restyle(image: Image.Image, style: str) -> Image.Image:
    """Gives the picture drawn in another way.

    Args:
        image: RGB picture on white.
        style: One of `STYLES`.
    """
    if style == "gray":
        return ImageOps.grayscale(image).convert("RGB")
    if style == "silhouette":
        return ImageOps.grayscale(image).point(lambda level: 255 * (level > 245)).convert("RGB")
    if style == "outline":
        edges = ImageOps.grayscale(image).filter(ImageFilter.FIND_EDGES)
        # The filter leaves the frame's own pixels as they are.
        edges.paste(0, (0, 0, edges.width, 1))
        edges.paste(0, (0, 0, 1, edges.height))
        edges.paste(0, (0, edges.height - 1, edges.width, edges.height))
        edges.paste(0, (edges.width - 1, 0, edges.width, edges.height))
        return ImageOps.invert(edges.point(lambda level: min(255, 3 * level))).convert("RGB")
    return image


def recolour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gives the picture with another hue and strength of colour; white stays white."""
    hue, saturation, value = image.convert("HSV").split()
    turn = int(rng.normal(0, 14)) if rng.random() < 0.7 else int(rng.integers(256))
    turned = hue.point(lambda level: (level + turn) % 256)
    image = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    return ImageEnhance.Color(image).enhance(rng.uniform(0.5, 1.5))


def move(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gives the picture at the encoder's size, turned, scaled, stretched and shifted on white."""
    angle = math.radians(rng.normal(0, 8))
    scale = rng.uniform(0.7, 1.08)
    stretch = math.exp(rng.normal(0, 0.08))
    ratio = image.width / IMAGE_SIDE
    a, b = math.cos(angle) * ratio / scale, math.sin(angle) * ratio / scale
    centre, half = image.width / 2, IMAGE_SIDE / 2
    dx, dy = rng.normal(0, 0.04 * IMAGE_SIDE, 2)
    rows = (a * stretch, b * stretch), (-b / stretch, a / stretch)
    shifts = [centre - row[0] * (half + dx) - row[1] * (half + dy) for row in rows]
    return image.transform(
        (IMAGE_SIDE, IMAGE_SIDE),
        Image.Transform.AFFINE,
        (*rows[0], shifts[0], *rows[1], shifts[1]),
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )


def change(image: Image.Image, rng: np.random.Generator, *, may_mirror: bool) -> Image.Image:
    """Gives a changed view at the encoder's size.

    Args:
        image: RGB picture on white.
        rng: Where the changes are drawn from.
        may_mirror: False where the caption tells left from right.
    """
    if may_mirror and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    style = str(rng.choice(STYLES, p=STYLE_SHARES))
    return move(restyle(recolour(image, rng), style), rng)
