"""Counterfactuals of cached features: what little of another picture would change the answer."""

import torch
from torch import Tensor

from cacheclip.heads.classes import class_counts
from cacheclip.task import Batch, Task, unit

ROWS = 1024  # whose search runs together: its arrays stay in a CPU's caches
LEARNT_SHARE = 0.001  # of a mask what is learned; the rest is what was found


def found(task: Task, text: Tensor, share: Tensor) -> dict[str, Tensor]:
    """What counterfactuals of the support pictures are made of, for each view.

    Args:
        task: V variants of N pictures, W views each.
        text: [C, D], unit rows, by which classes are alike and pictures belong to them.
        share: [V, N] in [0, 1), as `partners` has it.

    Returns:
        `others` [V, N, W, D], a picture of the nearest other class in the same view, and `edits`
        [V, N, W, D] bool, as `minimal_edits` finds them.
    """
    rivals = distractors(text, task.labels).gather(1, task.labels)  # [V, N]
    at = partners(task.labels, rivals, share)
    own, rival = text[task.labels].flatten(0, 1), text[rivals].flatten(0, 1)  # [V N, D]
    edits, others = [], []
    for view in range(task.views):
        x = task.support(view)["image"]  # [V, N, D]
        other = x.gather(1, at[..., None].expand_as(x))
        flat = x.flatten(0, 1), other.flatten(0, 1)
        edits.append(minimal_edits(*flat, own, rival).view_as(x))
        others.append(other)
    return {"edits": torch.stack(edits, 2), "others": torch.stack(others, 2)}


def changed(parts: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """The counterfactuals [V, B, D] of a batch as unit rows, and their masks [V, B, D].

    Args:
        parts: what `found` gives, and `mask` [V, C, D], what is learned of each class.
        batch: of the same task.
    """
    pictures, view = batch.rows // batch.task.views, batch.rows % batch.task.views  # [V, B]
    position = (batch.task.rows[:, None] == pictures[..., None]).int().argmax(-1)
    variant = torch.arange(len(position), device=position.device)[:, None]
    edits, others = (parts[name][variant, position, view] for name in ("edits", "others"))
    edited, learnt = 2 * edits.to(others.dtype) - 1, parts["mask"][variant, batch.labels]
    mask = ((1 - LEARNT_SHARE) * edited + LEARNT_SHARE * learnt).clamp(0, 1)
    return unit((1 - mask) * batch.query["image"] + mask * others), mask


def distractors(text: Tensor, labels: Tensor) -> Tensor:
    """Of each class the other class whose text is nearest, among those that have pictures.

    Args:
        text: [C, D], unit rows.
        labels: [V, N], of pictures.

    Returns:
        [V, C]; a class beside which no other has pictures is its own.
    """
    C = len(text)
    itself = torch.eye(C, dtype=torch.bool, device=text.device)
    absent = class_counts(labels, C) == 0  # [V, C]
    near = (text @ text.mT).masked_fill(itself, -torch.inf)
    nearest = near.masked_fill(absent[:, None], -torch.inf).max(-1)
    own = torch.arange(C, device=text.device)
    return nearest.indices.where(nearest.values.isfinite(), own)


def partners(labels: Tensor, wanted: Tensor, share: Tensor) -> Tensor:
    """For each picture one of the pictures of another class.

    Args:
        labels: [V, N], of the pictures to choose among.
        wanted: [V, N], the class that each is to get a picture of; it has some.
        share: [V, N] in [0, 1), which of them: at 0 the first.

    Returns:
        [V, N] positions.
    """
    counts = class_counts(labels, int(labels.max()) + 1)
    count = counts.gather(1, wanted)
    first = (counts.cumsum(1) - counts).gather(1, wanted)
    within = (share * count).long().minimum(count - 1)  # in float32 a share may round to 1
    return labels.sort(dim=1, stable=True).indices.gather(1, first + within)


def minimal_edits(x: Tensor, other: Tensor, own: Tensor, rival: Tensor) -> Tensor:
    """Which numbers of x become those of `other` until x is nearer to another text than to its own.

    One number after the other is copied, each time the one after which x has the highest cosine
    with the rival text, and none once the rival is ahead. Where it never is, all are copied. A
    candidate costs three additions and a root, since its product with the text and its squared norm
    differ from the present ones by what is known of that number alone.

    Args:
        x: [n, D].
        other: [n, D], what is copied from.
        own: [n, D], the text that x belongs to.
        rival: [n, D], the text that is to win.

    Returns:
        [n, D] bool.
    """
    parts = (torch.split(part.double(), ROWS) for part in (x, other, own, rival))
    return torch.cat([_minimal_edits(*part) for part in zip(*parts, strict=True)])


def _minimal_edits(x: Tensor, other: Tensor, own: Tensor, rival: Tensor) -> Tensor:
    added = (other - x) * rival  # [n, D], what copying a number adds to the product with the rival
    ahead = (other - x) * (rival - own)  # to what it is ahead of the own text
    longer = other.square() - x.square()  # to the squared norm
    product, lead = (x * rival).sum(1), (x * (rival - own)).sum(1)  # [n]
    square = x.square().sum(1)
    edited = torch.zeros_like(x, dtype=torch.bool)
    while True:
        behind = (lead <= 0) & ~edited.all(1)
        if not behind.any():
            return edited
        norm = (square[:, None] + longer).clamp_min(1e-24).sqrt()
        cosine = ((product[:, None] + added) / norm).masked_fill(edited, -torch.inf)
        best = cosine.argmax(1, keepdim=True)  # [n, 1]
        product += added.gather(1, best)[:, 0] * behind
        lead += ahead.gather(1, best)[:, 0] * behind
        square += longer.gather(1, best)[:, 0] * behind
        edited |= torch.zeros_like(edited).scatter_(1, best, behind[:, None])
