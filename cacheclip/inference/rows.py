"""A bundle and rows of features to answers; no picture is opened, and no encoder is there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier, Top
from cacheclip.inference.answer import Answer
from cacheclip.task import Query

MOST_ROWS = 8192  # of a part: as many as a shard has, so that each is opened once
MOST_NUMBERS = 2**22  # of a part's logits, or of what it has for each of the head's rows


@dataclass(frozen=True)
class Part:
    """Some rows that follow each other.

    Attributes:
        ids: one a row, [n].
        layers: what the bundle's method reads of the rows that have it, each [m, ...] float32.
        errors: row of the n -> why it has none.
        labels: class names, None for a row without; empty where none has one.
        splits: the splits that they are of; empty where nobody said.
        encoder: frozen parts of the encoder that answers take, as `Query` has them.
    """

    ids: Sequence[str]
    layers: Mapping[str, NDArray[np.float32]]
    errors: Mapping[int, str] = field(default_factory=dict)
    labels: Sequence[str | None] = ()
    splits: Sequence[str] = ()
    encoder: Mapping[str, Any] = field(default_factory=dict)


def rows_at_once(bundle: Bundle, numbers: int = 0) -> int:
    """How many rows a part should have, so that what is computed for it stays small.

    Args:
        bundle: what will answer.
        numbers: of the longest layer of a row.
    """
    longest = max(max(x.shape, default=1) for x in bundle.head.values())
    return max(1, min(MOST_ROWS, MOST_NUMBERS // max(longest, numbers, len(bundle.classnames))))


def predict_rows(
    bundle: Bundle, parts: Iterable[Part], top_k: int, *, raw: bool = False
) -> Iterator[Answer]:
    """Answers in the order of the rows; a row without features gets an error.

    Args:
        bundle: the classifier.
        parts: the rows, read when they are asked for.
        top_k: how many classes an answer names.
        raw: give the method's scores in place of probabilities.

    Raises:
        InputError: the bundle does not fit its method, or the rows.
    """
    classifier = Classifier(bundle)
    for part in parts:
        tops: Iterator[Top] = iter(())
        if len(part.ids) > len(part.errors):
            layers = {name: torch.from_numpy(x) for name, x in part.layers.items()}
            query = Query(layers, part.encoder)
            tops = iter(classifier.ranked(query, top_k, raw=raw))
        nothing = (None,) * len(part.ids)
        told = zip(part.ids, part.labels or nothing, part.splits or nothing, strict=True)
        for k, (name, label, split) in enumerate(told):
            error = part.errors.get(k)
            yield Answer(name, () if error else next(tops), error, label, split)
