"""Labels to score on: each must be a class of the head, in the kind in which the head answers."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cacheclip.errors import InputError, some
from cacheclip.exchange.labels import is_missing, is_number

WHERE = "head.score(X, y)"


def known_labels(y: ArrayLike, labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Labels [n] that can be compared with answers.

    Args:
        y: as it was given: in an array made of a list, a missing label is no longer known as one.
        labels: [n], the array of it.
        classes: [C], what the head answers.

    Raises:
        InputError: a label is missing, of another kind than the answers, or no class of the head.
    """
    if isinstance(y, list | tuple):
        labels = np.asarray(y, object)
    values = labels.tolist()
    known = set(classes.tolist())
    numbers = classes.dtype.kind in "iu"
    there = [one for one in values if not is_missing(one)]
    if len(there) == len(values) and numbers != all(map(is_number, there)):
        said, asked = ("names", "numbers") if numbers else ("numbers", "names")
        as_numbers = "np.array([head.classnames.index(name) for name in y])"
        raise InputError(
            f"y are {said}, and the head answers {asked}",
            where=WHERE,
            fix=f"y = {as_numbers if numbers else 'np.array(head.classnames)[y]'}",
        )
    strange = [one for one in values if is_missing(one) or one not in known]
    if strange:
        fix = "give labels that head.predict answers: those of head.classes"
        if len(strange) < len(values):
            fix = (
                "keep = np.isin(np.array(y, object), head.classes.tolist()); "
                "X, y = np.array(X)[keep], np.array(y, object)[keep]  # leaves them out"
            )
        shown = some(list(dict.fromkeys(map(repr, strange))))
        raise InputError(
            f"{len(strange):,} of {len(values):,} labels are no class of the head: {shown}",
            where=f"{WHERE}; its classes: {some([repr(one) for one in classes.tolist()])}",
            fix=fix,
        )
    return labels
