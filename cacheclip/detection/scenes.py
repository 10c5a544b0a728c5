"""Pictures with proposals and their features, and what annotations say that proposals are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.boxes import best_match
from cacheclip.store.regions import Annotations, Proposals
from cacheclip.store.schema import REGIONS_SPLIT
from cacheclip.store.source import Source

THING, NOTHING = 0.5, 0.3  # overlap from which a proposal is that thing; below which it is nothing
UNKNOWN = -1
AT_ONCE = 65_536  # rows that are read together


@dataclass(frozen=True, eq=False)
class Scenes:
    """R proposals in n pictures. What is true of the pictures is not among what they know.

    Attributes:
        of: their set: who encoded them, and the text of the classes.
        proposals: the boxes.
        read: numbers of proposals [r] -> their raw features [r, D] float32.
        opened: gives what is true; of scenes that are scored it is called by the score alone.
    """

    of: Source
    proposals: Proposals
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    opened: Callable[[], Annotations]

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.proposals.novel)

    @property
    def by_picture(self) -> list[slice]:
        """The proposals of each picture."""
        return [slice(*pair) for pair in pairwise(self.proposals.offsets.tolist())]

    @cached_property
    def pictures(self) -> NDArray[np.int64]:
        """[R], the number of each proposal's picture."""
        counts = np.diff(self.proposals.offsets)
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def encoded(self) -> NDArray[np.bool_]:
        """[R], which proposals have features."""
        good = np.ones(len(self.proposals.boxes), np.bool_)
        failed = [row for row in self.of.failures(REGIONS_SPLIT) if row < len(good)]
        good[failed] = False
        return good

    def parts(self) -> Iterator[NDArray[np.float32]]:
        """All raw features in order, so many rows at a time that memory does not grow with R."""
        R = len(self.proposals.boxes)
        for first in range(0, R, AT_ONCE):
            yield self.read(np.arange(first, min(R, first + AT_ONCE)))


@dataclass(frozen=True)
class Matched:
    """What proposals are, as far as annotations say.

    Attributes:
        labels: [R] int64, the class of the thing that a proposal overlaps by `THING` or more;
            `UNKNOWN` of the others.
        nothing: [R] bool, that it overlaps no annotated thing by `NOTHING`. Things that nobody
            annotated are among these.
    """

    labels: NDArray[np.int64]
    nothing: NDArray[np.bool_]

    def beside(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> "Matched":
        """The same with some proposals taken for things."""
        known, nothing = self.labels.copy(), self.nothing.copy()
        known[rows], nothing[rows] = labels, False
        return Matched(known, nothing)


def matched(scenes: Scenes) -> Matched:
    """Proposals against the annotated boxes of their pictures.

    Boxes of novel classes are nobody's: they are left out.
    """
    truth, proposals = scenes.opened(), scenes.proposals
    labels = np.full(len(proposals.boxes), UNKNOWN)
    nothing = scenes.encoded.copy()
    shown = ~proposals.novel[truth.labels]
    for picture, own in enumerate(scenes.by_picture):
        here = np.flatnonzero((truth.image == picture) & shown)
        if not len(here):
            continue
        match, overlap = best_match(proposals.boxes[own], truth.boxes[here])
        is_one = (overlap >= THING) & ~truth.crowd[here[match]] & scenes.encoded[own]
        labels[own] = np.where(is_one, truth.labels[here[match]], UNKNOWN)
        nothing[own] &= overlap < NOTHING
    return Matched(labels, nothing)
