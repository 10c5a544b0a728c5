"""Synthetic features that behave like CLIP's: what selection rules and calibration are tried on.

Pictures and text share a direction of their own kind each (the modality gap), classes lie around it
in groups that overlap, the text of a class points only partly where its pictures lie, and pictures
of one class differ in few directions, some classes more than others. How strong each of these is
differs from set to set. Sets `TUNING` were for making rules, sets `HELD_OUT` only for judging them.
(101 to 108 were held out first and 201 to 208 then, for the rule of choice; a set judges once.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TUNING = tuple(range(1, 9))
HELD_OUT = tuple(range(301, 309))

LOGIT_SCALE = 100.0
DIM = 512
CLASSES = (5, 10, 20)
PER_CLASS = {"train": 24, "val": 8, "test": 60}
GAP = 0.2  # cosine between the directions that all pictures, and all texts, share


@dataclass(frozen=True)
class ClipLike:
    """One set.

    Attributes:
        features: [N, D] float32 unit rows.
        labels: [N] int64.
        split: [N] train, val or test.
        text: [C, D] float32 unit rows.
        traits: what was drawn for this set.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    split: NDArray[np.str_]
    text: NDArray[np.float32]
    traits: dict[str, float]

    def save(self, file: Path) -> None:
        """Write the set as `cacheclip import` takes it."""
        np.savez(
            file,
            features=self.features,
            labels=self.labels,
            split=self.split,
            text_features=self.text,
            logit_scale=np.array(LOGIT_SCALE),
        )


def clip_like(seed: int) -> ClipLike:
    """The set of that number: the same numbers every time."""
    random = np.random.default_rng([seed, DIM])
    C = int(random.choice(CLASSES))
    traits = {
        "classes": C,
        "strength": random.uniform(0.14, 0.32),  # of the class in a picture's feature
        "overlap": random.uniform(0.0, 0.8),  # share that the classes of a group have in common
        "agreement": random.uniform(0.2, 0.9),  # cosine between text and pictures of a class
        "rank": int(random.choice([16, 64, 256])),  # directions in which pictures of a class differ
    }
    shared, rest = _unit(random.normal(size=(2, DIM)))
    of_text = _unit(GAP * shared + (1 - GAP**2) ** 0.5 * (rest - (rest @ shared) * shared))

    groups = _unit(random.normal(size=(max(2, C // 4), DIM)))[
        random.integers(max(2, C // 4), size=C)
    ]
    own = _unit(random.normal(size=(C, DIM)))
    classes = traits["overlap"] ** 0.5 * groups + (1 - traits["overlap"]) ** 0.5 * own  # [C, D]
    agreement = traits["agreement"]
    said = agreement * classes + (1 - agreement**2) ** 0.5 * _unit(random.normal(size=(C, DIM)))
    text = _unit(0.85 * of_text + 0.5 * said)

    axes = np.linalg.qr(random.normal(size=(DIM, int(traits["rank"]))))[0].T  # [R, D]
    spread = np.exp(random.normal(scale=0.25, size=C))  # some classes are harder
    features, labels, split = [], [], []
    for name, count in PER_CLASS.items():
        y = np.repeat(np.arange(C), count)
        along = random.normal(size=(len(y), len(axes))) @ axes / len(axes) ** 0.5
        everywhere = random.normal(size=(len(y), DIM)) / DIM**0.5
        differing = 0.45 * spread[y, None] * (along + 0.5 * everywhere)
        features.append(_unit(0.75 * shared + traits["strength"] * classes[y] + differing))
        labels.append(y)
        split += [name] * len(y)
    return ClipLike(
        features=np.concatenate(features).astype(np.float32),
        labels=np.concatenate(labels),
        split=np.array(split),
        text=text.astype(np.float32),
        traits=traits,
    )


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return rows
