"""Few-shot draws: which images of a class a run may learn from, and which it may choose on.

Within a class the sample ids are ranked by sha256(seed, id) and the first K are taken. So a draw
depends on nothing but the seed and the ids, the K-shot draw lies within the 2K-shot draw of the
same seed, and no library's generator can change it. Beside these draws there are CoOp's, and those
that somebody gives: with the arrays, or as a file of ids.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError, StoreError, argument, some
from cacheclip.files.disk import digest, publish_json, read_json, seal_agrees, sealed

FORMAT = 1  # of a record of a draw
VAL_SHOTS = 4  # CoOp's min(K, 4) validation images a class
ALL: Literal["all"] = "all"

Shots = int | Literal["all"]  # support images a class
Fewer = Literal["error", "keep"]  # what a class with fewer training images than that does


@dataclass(frozen=True)
class Pool:
    """The images of one split that a draw may take: ids, labels, and their rows in the store."""

    ids: Sequence[str]
    labels: Sequence[int]
    rows: Sequence[int]
    _ranked: dict[int, list[NDArray[np.int64]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def ranked(self, seed: int, n_classes: int) -> list[NDArray[np.int64]]:
        """Positions in the pool, those of each class by rank of sha256(seed, id)."""
        if seed not in self._ranked:
            labels = np.asarray(self.labels, np.int64)
            known = self._known
            ranks = bytearray()
            for k in known.tolist():
                ranks += hashlib.sha256(f"{seed}\n{self.ids[k]}".encode()).digest()
            words = np.frombuffer(ranks, ">u8").reshape(-1, 4).T
            order = known[np.lexsort((*words[::-1], labels[known]))]  # the last key comes first
            starts = np.searchsorted(labels[order], np.arange(1, n_classes))
            self._ranked[seed] = np.split(order, starts)
        return self._ranked[seed]

    @cached_property
    def _known(self) -> NDArray[np.int64]:
        """The positions that have a label: -1 marks an unlabelled image."""
        return np.flatnonzero(np.asarray(self.labels, np.int64) >= 0)

    @cached_property
    def as_seen(self) -> dict[int, list[int]]:
        """Label -> positions, labels as they are first seen."""
        found: dict[int, list[int]] = {}
        for k in self._known.tolist():
            found.setdefault(self.labels[k], []).append(k)
        return found

    @cached_property
    def held(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
        """Rows, labels and ids of all labelled images, one copy for whoever asks."""
        known = self._known.tolist()
        return (
            tuple(self.rows[k] for k in known),
            tuple(self.labels[k] for k in known),
            tuple(self.ids[k] for k in known),
        )


@dataclass(frozen=True)
class Draw:
    """One draw: rows into the train and val stores, class by class, each class in rank order.

    `short` names the classes that gave fewer images than `shots`, and how many.
    """

    shots: Shots
    seed: int
    support: tuple[int, ...]
    support_labels: tuple[int, ...]
    support_ids: tuple[str, ...]
    val: tuple[int, ...]
    val_labels: tuple[int, ...]
    val_ids: tuple[str, ...]
    short: tuple[tuple[str, int], ...] = ()

    @cached_property
    def draw_id(self) -> str:
        """Names the draw: a hash of its support and validation ids in order."""
        return digest({"support": self.support_ids, "val": self.val_ids})[:16]

    def holding(self, val: Pool) -> "Draw":
        """The same support with all of a pool's labelled images for validation."""
        rows, labels, ids = val.held
        return replace(self, val=rows, val_labels=labels, val_ids=ids)

    def record(self) -> dict[str, Any]:
        """The draw as `draws/<draw_id>.json` keeps it."""
        return {
            "format": FORMAT,
            "draw_id": self.draw_id,
            "shots": self.shots,
            "seed": self.seed,
            "support": list(self.support_ids),
            "val": list(self.val_ids),
        }


def keep_draw(folder: Path, draw: Draw, dataset: str) -> bool:
    """Publish a draw as `<draw_id>.json` in a folder, unless it is there.

    Two draws of the same pictures are one file, whatever shots or seed they go by.

    Returns:
        Whether what was there was damaged.
    """
    file = folder / f"{draw.draw_id}.json"
    there = file.exists()
    if there and _holds(file, draw):
        return False
    publish_json(file, sealed({"dataset": dataset} | draw.record()), option=argument("results"))
    return there


def _holds(file: Path, draw: Draw) -> bool:
    """Whether a file is a record of these pictures, by this version or a newer one."""
    try:
        content = read_json(file)
    except StoreError:
        return False
    if not isinstance(content, dict):
        return False
    agrees = seal_agrees(content)
    if agrees is False or (agrees is None and "format" in content):
        return False  # a record older than the seal has no format either
    pictures = [content.get(name) for name in ("support", "val")]
    return pictures == [list(draw.support_ids), list(draw.val_ids)]


def few_shot(
    train: Pool,
    val: Pool,
    classnames: Sequence[str],
    shots: Shots,
    seed: int,
    *,
    where: str,
    fewer: Fewer = "error",
) -> Draw:
    """Draw `shots` training images and min(shots, 4) validation images of every class.

    `all` draws every labelled training image, in an order that is the same for every seed, and
    four validation images. A validation split that lacks a class altogether gives no validation
    images at all.

    Args:
        train: what support images may come from.
        val: what validation images may come from; may be empty.
        classnames: one name a label, for the message.
        shots: support images a class, at least 1.
        seed: the draw's seed.
        where: the data set, for the message.
        fewer: `keep` takes what there is of a class that has fewer images than `shots`.

    Raises:
        InputError: a class has fewer than `shots` training images, or none.
    """
    by_class = train.ranked(0 if shots == ALL else seed, len(classnames))
    wanted = len(train.ids) if shots == ALL else shots
    short = _short(list(map(len, by_class)), classnames, shots, where, fewer)
    support = [k for ranked in by_class for k in ranked[:wanted].tolist()]
    chosen = _validation(val, len(classnames), wanted, seed)
    return replace(_draw(train, support, val, chosen, shots, seed), short=short)


def coop(
    train: Pool,
    val: Pool,
    classnames: Sequence[str],
    shots: Shots,
    seed: int,
    *,
    where: str,
    fewer: Fewer = "error",
) -> Draw:
    """The draw that CoOp's code makes of that seed (2109.01134).

    Classes come as they are first seen, and one stream of Python's generator samples K images of
    each class of `train`, then min(K, 4) of each of `val`; a class with fewer gives them all and
    draws nothing. So it depends on the order of the pools, which must be the split file's own, with
    the images in it that could not be encoded. Arguments and errors are those of `few_shot`.

    Raises:
        InputError: `shots` is `all`.
    """
    if shots == ALL:
        raise InputError(
            "CoOp's code draws a number of shots, and here are all",
            where=where,
            fix=f"use {argument('draw', 'ranked')}",
        )
    random = Random(seed)
    by_class = train.as_seen
    sizes = [len(by_class.get(label, ())) for label in range(len(classnames))]
    short = _short(sizes, classnames, shots, where, fewer)
    support = [k for own in by_class.values() for k in _sampled(own, shots, random)]
    few = min(shots, VAL_SHOTS)
    chosen = [k for own in val.as_seen.values() for k in _sampled(own, few, random)]
    if len(val.as_seen) < len(classnames):
        chosen = []
    return replace(_draw(train, support, val, chosen, shots, seed), short=short)


def _sampled(positions: Sequence[int], n: int, random: Random) -> Sequence[int]:
    return random.sample(positions, n) if len(positions) >= n else positions


def _short(
    sizes: Sequence[int], classnames: Sequence[str], shots: Shots, where: str, fewer: Fewer
) -> tuple[tuple[str, int], ...]:
    """The classes that have fewer training images than `shots`; refused unless they may.

    Args:
        sizes: training images of each class.
        classnames: one name a label.
        shots: asked for.
        where: the data set, for the message.
        fewer: what was asked for.
    """
    if shots != ALL and shots < 1:
        raise InputError(f"{shots} shots", where=where, fix=f"use {argument('shots', 1)} or more")
    named = list(zip(classnames, sizes, strict=True))
    if empty := [(name, n) for name, n in named if not n]:
        raise InputError(
            f"{len(empty)} of {len(classnames)} classes have no training picture",
            where=f"{where}, split train ({in_words(empty)})",
            fix="add pictures to these classes, or take the classes out of the data set",
        )
    short = () if shots == ALL else tuple((name, n) for name, n in named if n < shots)
    if short and shots != ALL and fewer == "error":
        raise _too_few(short, len(classnames), shots, where)
    return short


def in_words(short: Sequence[tuple[str, int]]) -> str:
    """Classes and how many images they have: the first five."""
    return ", ".join(f"{name} {n}" for name, n in short[:5]) + (", ..." if short[5:] else "")


def given(
    train: Pool,
    val: Pool,
    classnames: Sequence[str],
    rows: Sequence[int],
    shots: int,
    seed: int,
    *,
    where: str,
) -> Draw:
    """The draw of a support set that came with the data set; its validation images are ranked.

    Args:
        train: what support images may come from.
        val: what validation images may come from; may be empty.
        classnames: one name a label, for the message.
        rows: the support set as rows of the train store, class by class.
        shots: what it goes by; it may have more or fewer images of a class.
        seed: the draw's seed.
        where: the data set, for the message.

    Raises:
        InputError: a row is not there, or a class has none.
    """
    asked = set(rows)
    position = {row: k for k, row in enumerate(train.rows) if row in asked}
    absent = [row for row in rows if row not in position or train.labels[position[row]] < 0]
    there = sorted(
        (position[row] for row in rows if row in position), key=lambda k: train.labels[k]
    )
    what = f"{len(absent)} of its pictures are not there" if absent else ""
    if what := what or _lost(there, train, classnames):
        raise InputError(
            f"the given draw of seed {seed} and {shots} shots does not fit: {what}",
            where=where,
            fix=f"use {argument('draw', 'ranked')}, or give the arrays with other draws",
        )
    return _draw(train, there, val, _validation(val, len(classnames), shots, seed), shots, seed)


def listed(
    train: Pool,
    val: Pool,
    classnames: Sequence[str],
    ids: Sequence[str],
    val_ids: Sequence[str],
    shots: int,
    seed: int,
    *,
    where: str,
) -> Draw:
    """The draw that a file lists by its ids, in their order.

    Args:
        train: what support images may come from.
        val: what validation images may come from; may be empty.
        classnames: one name a label, for the message.
        ids: of the support images.
        val_ids: of the validation images; of none they are ranked.
        shots: what it goes by; it may have more or fewer images of a class.
        seed: the draw's seed.
        where: the data set, for the message.

    Raises:
        InputError: an image is not there or stands twice, or a class has none.
    """
    support = _positions(train, ids, "train", where)
    if lost := _lost(support, train, classnames):
        raise InputError(
            f"the file's draw of seed {seed} and {shots} shots has {lost}",
            where=where,
            fix=f"add ids of these classes to its `support`, or use {argument('draw', 'ranked')}",
        )
    chosen = _positions(val, val_ids, "val", where)
    if not val_ids:
        chosen = _validation(val, len(classnames), shots, seed)
    return _draw(train, support, val, chosen, shots, seed)


def _lost(support: Sequence[int], train: Pool, classnames: Sequence[str]) -> str:
    """The classes without any of these positions, in words; "" where there are none."""
    there = {train.labels[k] for k in support}
    lost = [name for label, name in enumerate(classnames) if label not in there]
    return f"no picture of {len(lost)} of {len(classnames)} classes: {some(lost)}" if lost else ""


def _positions(pool: Pool, ids: Sequence[str], split: str, where: str) -> list[int]:
    """Where ids stand in a pool."""
    wanted = set(ids)
    place = {own: k for k, own in enumerate(pool.ids) if own in wanted and pool.labels[k] >= 0}
    if absent := [own for own in ids if own not in place]:
        raise InputError(
            "the file's draw names pictures that have no features or no label here: "
            f"{some(absent)}",
            where=f"{where}, split {split}",
            fix="name pictures by the ids of this set, as its own draws/*.json do, or use "
            f"{argument('draw', 'ranked')}",
        )
    if len(wanted) < len(ids):
        raise InputError(
            "the file's draw names a picture more than once",
            where=f"{where}, split {split}",
            fix=f"name each picture once, or use {argument('draw', 'ranked')}",
        )
    return [place[own] for own in ids]


def _draw(
    train: Pool, support: Sequence[int], val: Pool, chosen: Sequence[int], shots: Shots, seed: int
) -> Draw:
    """The draw of these positions in both pools."""
    return Draw(
        shots=shots,
        seed=seed,
        support=tuple(train.rows[k] for k in support),
        support_labels=tuple(train.labels[k] for k in support),
        support_ids=tuple(train.ids[k] for k in support),
        val=tuple(val.rows[k] for k in chosen),
        val_labels=tuple(val.labels[k] for k in chosen),
        val_ids=tuple(val.ids[k] for k in chosen),
    )


def _validation(val: Pool, n_classes: int, shots: int, seed: int) -> list[int]:
    """Positions of min(shots, 4) validation images a class; none where a class has none."""
    by_class = val.ranked(seed, n_classes)
    if not all(map(len, by_class)):
        return []
    return [k for ranked in by_class for k in ranked[: min(shots, VAL_SHOTS)].tolist()]


def _too_few(
    short: Sequence[tuple[str, int]], n_classes: int, shots: int, where: str
) -> InputError:
    most = min(n for _, n in short)
    return InputError(
        f"{len(short)} of {n_classes} classes have fewer than {shots} training pictures",
        where=f"{where}, split train ({in_words(short)})",
        fix=f"use {argument('shots', most)} or fewer, {argument('fewer', 'keep')} to take what "
        "they have, or add pictures",
    )
