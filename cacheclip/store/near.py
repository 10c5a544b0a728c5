"""Pictures that are all but the same by their features, across splits or classes."""

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.store.features import FeatureSet
from cacheclip.store.labels import UNLABELLED

USUAL = 0.99
BLOCK = 2048  # rows a side of what is compared at once
MOST = 10_000  # pairs that are listed
HEADERS = ("picture", "split", "class", "is nearly", "split", "class", "cosine")
ROUNDING = 1e-6  # by which the cosine of a picture with itself may miss 1


@dataclass(frozen=True)
class Picture:
    """Where a picture stands; its class is None where it has no label."""

    split: str
    id: str
    classname: str | None

    def as_json(self) -> dict[str, Any]:
        """The picture as `--json` prints it."""
        return {"split": self.split, "id": self.id, "class": self.classname}


@dataclass(frozen=True)
class Near:
    """What was found.

    Attributes:
        cosine: the least that counts.
        found: how many pairs there are.
        pairs: cosine and both pictures, nearest first, at most `MOST`.
    """

    cosine: float
    found: int
    pairs: list[tuple[float, Picture, Picture]]

    def as_json(self) -> dict[str, Any]:
        """What was found as `--json` prints it."""
        listed = [
            {"cosine": round(cosine, 6), "a": a.as_json(), "b": b.as_json()}
            for cosine, a, b in self.pairs
        ]
        return {"cosine": self.cosine, "found": self.found, "pairs": listed}

    @property
    def sentence(self) -> str:
        """How many there are, in one line."""
        listed = f", the nearest {MOST:,} are listed" if self.found > MOST else ""
        return (
            f"{self.found:,} pairs across splits or classes with a cosine of {self.cosine:g} or "
            f"more{listed}"
        )

    def as_cells(self) -> list[list[str]]:
        """The pairs as the table prints them."""
        return [
            [a.id, a.split, a.classname or "-", b.id, b.split, b.classname or "-", f"{cosine:.4f}"]
            for cosine, a, b in self.pairs
        ]


def near_duplicates(features: FeatureSet, cosine: float = USUAL) -> Near:
    """The pairs of pictures of different splits or classes whose features nearly coincide.

    Every picture is compared with every other, a block at a time: time grows with the square of
    their number, memory does not.

    Args:
        features: the feature set.
        cosine: of two unit vectors, the least that counts.

    Raises:
        InputError: `cosine` is no cosine.
        StoreError: a store is damaged.
    """
    if not 0 < cosine <= 1:
        raise InputError(
            f"{cosine:g} is no cosine of near duplicates",
            where="--near-duplicates",
            fix="give a number above 0 and up to 1, such as --near-duplicates 0.99",
        )
    x, kind, pictures = _pictures(features)
    found = 0
    nearest: list[tuple[float, int, int]] = []
    for first in range(0, len(x), BLOCK):
        for second in range(first, len(x), BLOCK):
            near = x[first : first + BLOCK] @ x[second : second + BLOCK].T  # [<= B, <= B]
            here, there = kind[first : first + BLOCK], kind[second : second + BLOCK]
            wanted = (near >= cosine - ROUNDING) & (here[:, None] != there[None])
            if first == second:
                wanted = np.triu(wanted, 1)
            rows, columns = np.nonzero(wanted)
            found += len(rows)
            values = np.minimum(near[rows, columns], 1).tolist()
            block = zip(values, (rows + first).tolist(), (columns + second).tolist(), strict=True)
            nearest = heapq.nsmallest(
                MOST, [*nearest, *block], key=lambda pair: (-pair[0], pair[1], pair[2])
            )
    pairs = [(value, pictures[a], pictures[b]) for value, a, b in nearest]
    return Near(cosine, found, pairs)


def _pictures(
    features: FeatureSet,
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[Picture]]:
    """Unit features [n, D] of all pictures that have some, a number for split and class, names."""
    names = features.labels.classnames
    vectors, kinds, pictures = [], [], []
    for number, split in enumerate(features.labels.splits):
        if (split, "image") not in features.images:
            continue
        store = features.store(split)
        loaded = store.load()
        labels = np.asarray(features.labels.splits[split].labels, np.int64)
        vectors.append(loaded.features[loaded.ok])
        kinds.append((labels * len(features.labels.splits) + number)[loaded.ok])
        ids = store.ids()
        pictures += [
            Picture(split, ids[row], None if labels[row] == UNLABELLED else names[labels[row]])
            for row in np.flatnonzero(loaded.ok).tolist()
        ]
    return np.concatenate(vectors), np.concatenate(kinds), pictures
