"""Parts of a support set that are left out of a fit in turn, so that they can judge it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from cacheclip.draws import Draw

FOLDS = 4


def folds(draw: Draw, *, even: bool) -> tuple[Draw, ...]:
    """The draw without every F-th picture of each class, once for each remainder.

    F is `FOLDS`, or the pictures of the smallest class if these are fewer; of one picture there are
    no folds.

    Args:
        draw: its support is cut.
        even: every fold leaves out equally many pictures of a class, so that a few are in all
            fits where F does not divide the class; else each picture is left out once.
    """
    sizes = Counter(draw.support_labels)
    F = min(FOLDS, *sizes.values())
    seen: Counter[int] = Counter()
    place = []  # of each support picture within its class
    for label in draw.support_labels:
        place.append(seen[label])
        seen[label] += 1
    last = {label: n // F * F if even else n for label, n in sizes.items()}
    left = [
        at % F if at < last[label] else None
        for at, label in zip(place, draw.support_labels, strict=True)
    ]
    return tuple(_without(draw, left, fold) for fold in range(F) if F > 1)


def _without(draw: Draw, left: Sequence[int | None], fold: int) -> Draw:
    """The draw without the pictures that a fold leaves out."""
    kept = [k for k, own in enumerate(left) if own != fold]
    return replace(
        draw,
        support=tuple(draw.support[k] for k in kept),
        support_labels=tuple(draw.support_labels[k] for k in kept),
    )


def left_out(fold: Draw, draw: Draw) -> tuple[list[int], list[int]]:
    """Rows and labels of the pictures of a draw that a fold of it does without."""
    seen = set(fold.support)
    left = [k for k, row in enumerate(draw.support) if row not in seen]
    return [draw.support[k] for k in left], [draw.support_labels[k] for k in left]
