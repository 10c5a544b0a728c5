"""What variants say of labelled pictures: from logits to what is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cacheclip.answers import RUNNERS_UP, Answered, class_type
from cacheclip.metrics import at_label, first_classes, true_rank

MOST = 60_000.0  # a logit, or minus a log probability, that float16 still holds


@dataclass(frozen=True)
class Told:
    """What W variants say of n pictures: as logits come, and at the variant's temperature.

    Attributes:
        labels: [n].
        top: [W, n, k], classes, the largest logit first.
        top_log_p: [W, n, k], at the temperature.
        true_rank: [W, n].
        top_p: [2, W, n].
        true_log_p: [2, W, n].
        logits: [W, n, C] float16 as they come; None unless they are to be kept.
    """

    labels: Tensor
    top: Tensor
    top_log_p: Tensor
    true_rank: Tensor
    top_p: Tensor
    true_log_p: Tensor
    logits: Tensor | None

    @classmethod
    def of(
        cls, logits: Tensor, labels: Tensor, temperatures: Tensor, *, keep_logits: bool = False
    ) -> "Told":
        """From logits [W, n, C], labels [n] and temperatures [W]."""
        raw = logits.float()
        top = first_classes(logits, RUNNERS_UP)
        top_p, true_log_p = [], []
        for x in (raw, raw / temperatures[:, None, None]):
            top_p.append(x.softmax(-1).amax(-1))
            log_p = x.log_softmax(-1)
            true_log_p.append(at_label(log_p, labels))
        return cls(
            labels,
            top,
            log_p.gather(-1, top),  # at the temperature, which came last
            true_rank(logits, labels),
            torch.stack(top_p),
            torch.stack(true_log_p),
            raw.clamp(-MOST, MOST).half() if keep_logits else None,
        )

    @classmethod
    def cat(cls, parts: Sequence["Told"]) -> "Told":
        """One part of the pictures after the other."""
        logits = [part.logits for part in parts if part.logits is not None]
        return cls(
            torch.cat([part.labels for part in parts]),
            torch.cat([part.top for part in parts], 1),
            torch.cat([part.top_log_p for part in parts], 1),
            torch.cat([part.true_rank for part in parts], -1),
            torch.cat([part.top_p for part in parts], -1),
            torch.cat([part.true_log_p for part in parts], -1),
            torch.cat(logits, 1) if logits else None,
        )

    def answered(self, n_classes: int) -> list[Answered]:
        """The same as arrays, variant by variant."""
        kind = class_type(n_classes)
        label, top = self.labels.cpu().numpy().astype(kind), self.top.cpu().numpy().astype(kind)
        rank = self.true_rank.cpu().numpy().astype(kind)
        true_log_p, top_log_p = _held(self.true_log_p[1]), _held(self.top_log_p)
        raw_top_p, top_p = self.top_p.cpu().numpy().astype(np.float16)
        return [
            Answered(
                predicted=top[w, :, 0],
                label=label,
                true_log_p=true_log_p[w],
                top_p=top_p[w],
                true_rank=rank[w],
                top=top[w],
                top_log_p=top_log_p[w],
                raw_top_p=raw_top_p[w],
                logits=None if self.logits is None else self.logits[w].cpu().numpy(),
            )
            for w in range(len(top))
        ]


def _held(log_p: Tensor) -> NDArray[np.float16]:
    """Log probabilities as float16, the least ones as the least that it holds."""
    return log_p.clamp_min(-MOST).cpu().numpy().astype(np.float16)
