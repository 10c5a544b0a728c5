"""Points of a search: settings that were tried on validation pictures, and what each did there."""

from collections.abc import Iterable

import torch
from torch import Tensor

from cacheclip.heads.temperature import label_log_p
from cacheclip.metrics import hits

# Settings [G, T], hits [G, T] and log p [G, T, F n] of V = G F variants, F of which are pooled.
Points = tuple[dict[str, Tensor], Tensor, Tensor]


def tried(
    points: Iterable[tuple[dict[str, Tensor], Tensor]], labels: Tensor, folds: int = 1
) -> Points:
    """What the logits of each point say of the pictures; those of one point are held at a time.

    Args:
        points: settings [V] each, and the logits [V, n, C] that they give.
        labels: [n] or [V, n] int64.
        folds: F neighbouring variants, of the same settings, that are judged as one: the pictures
            of all of them count together, each by its own variant's answer.

    Returns:
        Settings [V / F, T], hits [V / F, T] int64, and log p of the labels [V / F, T, F n] as
        `label_log_p` has it.
    """
    labels = pooled(labels, folds)
    settings, counts, log_p = [], [], []
    for own, logits in points:
        logits = pooled(logits, folds)
        settings.append({name: x[::folds] for name, x in own.items()})
        counts.append(hits(logits, labels))
        log_p.append(label_log_p(logits, labels))
    values = {name: torch.stack([own[name] for own in settings], 1) for name in settings[0]}
    return values, torch.stack(counts, 1), torch.stack(log_p, 1)


def pooled(x: Tensor, folds: int) -> Tensor:
    """The pictures of every `folds` variants side by side: [V, n, ..] as [V / F, F n, ..]."""
    return x if folds == 1 else x.reshape(len(x) // folds, -1, *x.shape[2:])
