"""Proposals of some pictures with their features, and what overlaps what is known to be there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.boxes import best_match
from cacheclip.detection.precision import Found

THING, NOTHING = 0.5, 0.3  # overlap from which a proposal is that thing; below which it is nothing
UNKNOWN = -1
AT_ONCE = 65_536  # rows that are read together


@dataclass(frozen=True)
class Proposals:
    """R boxes in n pictures. What is there is not among what they know.

    Attributes:
        offsets: [n + 1] int64, those of picture i are offsets[i] to offsets[i + 1] - 1.
        boxes: [R, 4], x, y, width, height in pixels.
        objectness: [R], from 0 to 1, how likely a thing is in each.
        read: rows [r] -> their raw features [r, D] float32.
    """

    offsets: NDArray[np.int64]
    boxes: NDArray[np.floating]
    objectness: NDArray[np.floating]
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def by_picture(self) -> list[slice]:
        """The proposals of each picture."""
        return [slice(*pair) for pair in zip(self.offsets[:-1], self.offsets[1:], strict=True)]

    @cached_property
    def pictures(self) -> NDArray[np.int64]:
        """[R], the number of each proposal's picture."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def parts(self) -> Iterator[NDArray[np.float32]]:
        """All raw features in order, as many rows at a time as fit in memory whatever R is."""
        for first in range(0, len(self), AT_ONCE):
            yield self.read(np.arange(first, min(len(self), first + AT_ONCE)))


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


def matched(proposals: Proposals, annotated: Found) -> Matched:
    """Proposals against the boxes that are annotated in their pictures."""
    labels = np.full(len(proposals), UNKNOWN)
    nothing = np.ones(len(proposals), np.bool_)
    for picture, own in enumerate(proposals.by_picture):
        here = np.flatnonzero(annotated.pictures == picture)
        if not len(here):
            continue
        match, overlap = best_match(proposals.boxes[own], annotated.boxes[here])
        found = annotated.labels[here[match]]
        many = annotated.crowd[here[match]] if annotated.crowd is not None else False
        labels[own] = np.where((overlap >= THING) & ~np.asarray(many), found, UNKNOWN)
        nothing[own] = overlap < NOTHING
    return Matched(labels, nothing)
