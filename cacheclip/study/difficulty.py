"""How hard the classes of a set are: by zero-shot on training pictures, so that no test is read."""

from collections.abc import Sequence

import numpy as np
import torch

from cacheclip.engine.stack import logits_in_parts
from cacheclip.errors import UsageError, argument
from cacheclip.methods.zero_shot import ZeroShot
from cacheclip.study.data import SetData


def accuracy(data: SetData) -> Sequence[float]:
    """Zero-shot's on the training pictures of each class; 0 of a class that has none.

    Raises:
        UsageError: there is no text to tell by.
    """
    if data.features.text is None:
        raise UsageError(
            "difficulty is zero-shot's, and here is no class text",
            where=f"{argument('base-to-new', 'difficulty')}, data set {data.features.dataset}",
            fix=f"take halves by label order: {argument('base-to-new')}",
        )
    rows, labels, _ = data.pool("train").held
    method = ZeroShot()
    params = method.solve(data.task(ZeroShot, [None], [{}]))
    query, known = data.pictures(method, "train", rows, labels)
    parts = logits_in_parts(method, params, query, data.limit)
    right = torch.cat([x[0].argmax(-1) == known[first:last] for first, last, x in parts])
    n_classes = len(data.classnames)
    hits, n = (np.bincount(own.cpu().numpy(), minlength=n_classes) for own in (known[right], known))
    found: list[float] = (hits / np.maximum(n, 1)).tolist()
    return found
