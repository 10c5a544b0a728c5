"""What candidates do on labelled pictures that they did not learn from: what a choice goes by."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cacheclip.draws import Draw
from cacheclip.heads.temperature import label_log_p
from cacheclip.methods.base import Found
from cacheclip.metrics import hits
from cacheclip.study.data import SetData
from cacheclip.study.folds import left_out
from cacheclip.study.heads import Heads, held_out, served
from cacheclip.study.plan import Variant
from cacheclip.study.race import Point
from cacheclip.task import Query

COPIES = 6  # of the logits that likelihood works on at once


def on_validation(rivals: Heads, data: SetData) -> Sequence[Sequence[Point]]:
    """What each of a cell's candidates does on its validation pictures; nothing without these."""
    draw = rivals.variants[0].draw
    if draw is None or not draw.val:
        return [()] * len(rivals.variants)
    return on_pictures(
        rivals, *held_out(rivals.method, "val", draw.val, draw.val_labels, data), data
    )


def on_pictures(
    rivals: Heads, query: Query, labels: Tensor, data: SetData
) -> Sequence[Sequence[Point]]:
    """What each candidate does on pictures [n] that all of them are asked for."""
    found = rivals.method.search(rivals.params, query, labels)
    if found is None:
        return _as_they_are(rivals, query, labels, data)
    return [_points(variant, found, v) for v, variant in enumerate(rivals.variants)]


def _points(candidate: Variant, found: Found, v: int) -> list[Point]:
    """All points of one candidate's search."""
    return [
        Point(
            candidate,
            {**candidate.settings, **{n: x[v][t].item() for n, x in found.settings.items()}},
            int(found.hits[v][t]),
            found.log_p[v][t],
        )
        for t in range(found.hits.shape[1])
    ]


def _as_they_are(rivals: Heads, query: Query, labels: Tensor, data: SetData) -> list[list[Point]]:
    """Each candidate's own settings, as many candidates at a time as memory has room for."""
    one = COPIES * 4 * len(labels) * len(data.classnames)  # bytes
    at_once = max(1, data.limit // one)
    points: list[list[Point]] = []
    for first in range(0, len(rivals.variants), at_once):
        heads = served(rivals.part(first, first + at_once), data)
        logits = heads.answers(query, data.limit)[:, : len(labels)]  # [V, n, C]
        right, log_p = hits(logits, labels).tolist(), label_log_p(logits, labels)
        points += [
            [Point(variant, variant.settings, right[v], log_p[v])]
            for v, variant in enumerate(heads.variants)
        ]
    return points


def in_folds(cut: list[Heads], heads: Heads) -> Iterator[Heads]:
    """The folds of one candidate after the other.

    Args:
        cut: the folds of the last candidate so far, where a chunk ended among them: they go on.
        heads: the next chunk.
    """
    first = 0
    while first < len(heads.variants):
        there = sum(len(own.variants) for own in cut)
        n_folds = len(heads.variants[first].cell.folds) or 1  # constants that stand alone
        cut.append(heads.part(first, first + n_folds - there))
        first += len(cut[-1].variants)
        if there + len(cut[-1].variants) == n_folds:
            yield Heads.cat(cut) if len(cut) > 1 else cut[0]
            cut.clear()


def on_folds(folds: Heads, data: SetData) -> list[Point]:
    """What one candidate does on its support set, each picture told by the fit without it.

    Args:
        folds: F fits of the candidate, which leave out equally many pictures each.
        data: the feature set.
    """
    candidate, method = folds.variants[0].candidate, folds.method
    left = [_left_out_of(variant) for variant in folds.variants]
    if method.searched:
        rows, labels = ([k for own in each for k in own] for each in zip(*left, strict=True))
        query, known = data.pictures(method, "train", rows, labels)
        own = torch.arange(len(rows), device=known.device).view(len(left), -1)  # [F, n]
        found = method.search(folds.params, query.at(own), known[own], len(left))
        return [] if found is None else _points(candidate, found, 0)
    logits, known = answers_of_folds(folds, data)
    right, log_p = hits(logits, known), label_log_p(logits, known)
    return [Point(candidate, candidate.settings, int(right), log_p[0])]


def answers_of_folds(folds: Heads, data: SetData, most: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits [1, n, C] of the pictures that each fit did not see, and their labels [n].

    Args:
        folds: fits of one candidate on parts of its support set.
        data: the feature set.
        most: pictures of a fold, an even choice of them; by default all.
    """
    heads = served(folds, data)
    logits, labels = [], []
    for v, variant in enumerate(heads.variants):
        rows, own = _left_out_of(variant)
        step = 1 if most is None else -(-len(rows) // most)
        query, known = held_out(heads.method, "train", rows[::step], own[::step], data)
        logits.append(heads.one(v).answers(query, data.limit)[:, : len(known)])
        labels.append(known)
    return torch.cat(logits, 1), torch.cat(labels)


def _left_out_of(fold: Variant) -> tuple[list[int], list[int]]:
    """Rows and labels of the pictures of its candidate that it did not learn from."""
    part, draw = fold.draw, fold.candidate.draw
    if not isinstance(part, Draw) or not isinstance(draw, Draw):
        raise TypeError("a fold is a part of a draw")
    return left_out(part, draw)
