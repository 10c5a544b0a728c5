"""Scenes of arrays: things of known classes, boxes around and beside them, features by overlap."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.boxes import best_match
from cacheclip.detection.scenes import Scenes
from cacheclip.features import Features
from cacheclip.store.regions import Annotations, Proposals
from cacheclip.store.source import Source

C, D, SIDE, SCALE = 5, 24, 160, 20.0
NOVEL = np.array([False, False, False, True, True])


def centres() -> NDArray[np.float64]:
    """A direction of each class, and one of what is nothing: [C + 1, D]."""
    return np.linalg.qr(np.random.default_rng(5).normal(size=(D, C + 1)))[0].T


def classes() -> Source:
    """Text that is the directions turned alike: what base classes teach helps the novel ones."""
    random = np.random.default_rng(6)
    shift = 0.8 * random.normal(size=D) / np.sqrt(D)
    text = centres()[:C] + shift + 0.3 * random.normal(size=(C, D)) / np.sqrt(D)
    own = {split: centres()[:C] for split in ("train", "test")}
    y, named = dict.fromkeys(own, range(C)), ["ant", "bee", "cow", "doe", "elk"]
    given = {"text": text, "logit_scale": SCALE, "classnames": named, "name": "toys"}
    return Features.of(own, y, **given).source


def scenes(
    seed: int, pictures: int = 8, opened: Callable[[Annotations], Annotations] = lambda x: x
) -> Scenes:
    """Pictures of two things each, four boxes about each thing and four beside them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, C, (pictures, 2))
    things = np.tile([[10.0, 0, 50, 60], [90, 0, 50, 60]], (pictures, 1, 1))  # [n, 2, 4]
    things[..., 1] = random.uniform(10, 70, (pictures, 2))
    about = np.repeat(things, 4, 1) + random.normal(size=(pictures, 8, 4)) * [6, 6, 8, 8]
    beside = random.uniform([0, 0, 15, 15], [110, 110, 45, 45], (pictures, 4, 4))
    boxes = np.concatenate([about, beside], 1)  # [n, 12, 4]
    match, overlap = map(np.stack, zip(*map(best_match, boxes, things), strict=True))
    own = np.take_along_axis(labels, match, 1)  # [n, 12]
    share = overlap[..., None]
    x = share * centres()[own] + (1 - share) * centres()[C]
    x = (x + 0.15 * random.normal(size=x.shape)).reshape(-1, D).astype(np.float32)
    scores = np.clip(0.8 * overlap + 0.2 * random.random(overlap.shape), 0.01, 1)
    numbers = np.arange(pictures)
    proposals = Proposals(
        images=[f"{k}.png" for k in numbers], image_ids=numbers + 1,
        category_ids=np.arange(C) + 1, novel=NOVEL, offsets=12 * np.arange(pictures + 1),
        boxes=boxes.reshape(-1, 4).astype(np.float32), scores=scores.ravel().astype(np.float32),
    )  # fmt: skip
    there = Annotations(
        image=numbers.repeat(2), boxes=things.reshape(-1, 4).astype(np.float32),
        labels=labels.ravel(), crowd=np.zeros(2 * pictures, np.bool_),
        ids=np.arange(2 * pictures) + 1,
    )  # fmt: skip
    return Scenes(classes(), proposals, lambda rows: x[rows], lambda: opened(there))
