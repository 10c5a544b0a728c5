"""Points of a search: settings that were tried on validation pictures, and what each did there."""

from collections.abc import Iterable

import torch
from torch import Tensor

from cacheclip.heads.temperature import label_log_p
from cacheclip.metrics import hits

Points = tuple[dict[str, Tensor], Tensor, Tensor]  # settings [V, T], hits [V, T], log p [V, T, n]


def tried(points: Iterable[tuple[dict[str, Tensor], Tensor]], labels: Tensor) -> Points:
    """What the logits of each point say of the pictures; those of one point are held at a time.

    Args:
        points: settings [V] each, and the logits [V, n, C] that they give.
        labels: [n] or [V, n] int64.

    Returns:
        Settings [V, T], hits [V, T] int64, and log p of the labels [V, T, n] as `label_log_p` has
        it.
    """
    settings, counts, log_p = [], [], []
    for own, logits in points:
        settings.append(own)
        counts.append(hits(logits, labels))
        log_p.append(label_log_p(logits, labels))
    values = {name: torch.stack([own[name] for own in settings], 1) for name in settings[0]}
    return values, torch.stack(counts, 1), torch.stack(log_p, 1)
