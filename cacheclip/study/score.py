"""The one place that opens test labels: for settled params, whose choice is over.

`on_test` alone goes before a choice, that of the policy `test-oracle`, whose rows are marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cacheclip.answers import RUNNERS_UP, Classes, class_type
from cacheclip.engine.stack import logits_in_parts
from cacheclip.methods.base import Method, Params
from cacheclip.metrics import at_label, calibration_error, first_classes, true_rank
from cacheclip.study.data import SetData
from cacheclip.study.evidence import on_pictures
from cacheclip.study.heads import Heads
from cacheclip.study.race import Point

LEAST = -60_000.0  # a log probability that float16 still holds


@dataclass(frozen=True)
class Scores:
    """Test results of W variants; classes and ranks are of `class_type`.

    Attributes:
        top1: [W] fractions.
        predicted: [W, n], the class of the largest logit.
        true_log_p: [W, n] float16, log probability of the label at the variant's temperature.
        top_p: [W, n] float16, probability of the prediction at that temperature.
        ece, nll: [W, 2], calibration error and mean negative log probability of the label, as the
            logits come and at that temperature.
        true_rank: [W, n], how many classes stand before the label.
        top: [W, n, k], the classes of the largest logits, the largest first.
        top_log_p: [W, n, k] float16, their log probabilities at that temperature.
        label: [n].
        zero_shot: [n], what the text alone predicts; None where there is none.
    """

    top1: NDArray[np.float64]
    predicted: Classes
    true_log_p: NDArray[np.float16]
    top_p: NDArray[np.float16]
    ece: NDArray[np.float64]
    nll: NDArray[np.float64]
    true_rank: Classes
    top: Classes
    top_log_p: NDArray[np.float16]
    label: Classes
    zero_shot: Classes | None

    def of(self, variant: int) -> "Scores":
        """The results of one variant, its axis kept."""
        one = slice(variant, variant + 1)
        return Scores(
            self.top1[one],
            self.predicted[one],
            self.true_log_p[one],
            self.top_p[one],
            self.ece[one],
            self.nll[one],
            self.true_rank[one],
            self.top[one],
            self.top_log_p[one],
            self.label,
            self.zero_shot,
        )


@dataclass(frozen=True)
class _Told:
    """What W variants say of n pictures: as logits come, and at the variant's temperature.

    Attributes:
        top: [W, n, k], classes, the largest logit first.
        top_log_p: [W, n, k], at the temperature.
        true_rank: [W, n].
        top_p: [2, W, n].
        true_log_p: [2, W, n].
    """

    top: Tensor
    top_log_p: Tensor
    true_rank: Tensor
    top_p: Tensor
    true_log_p: Tensor

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, temperatures: Tensor) -> "_Told":
        """From logits [W, n, C], labels [n] and temperatures [W]."""
        raw = logits.float()
        top = first_classes(logits, RUNNERS_UP)
        top_p, true_log_p = [], []
        for x in (raw, raw / temperatures[:, None, None]):
            top_p.append(x.softmax(-1).amax(-1))
            log_p = x.log_softmax(-1)
            true_log_p.append(at_label(log_p, labels))
        top_log_p = log_p.gather(-1, top)  # at the temperature, which came last
        return cls(
            top, top_log_p, true_rank(logits, labels), torch.stack(top_p), torch.stack(true_log_p)
        )

    @classmethod
    def cat(cls, parts: Sequence["_Told"]) -> "_Told":
        """One part of the pictures after the other."""
        return cls(
            torch.cat([part.top for part in parts], 1),
            torch.cat([part.top_log_p for part in parts], 1),
            torch.cat([part.true_rank for part in parts], -1),
            torch.cat([part.top_p for part in parts], -1),
            torch.cat([part.true_log_p for part in parts], -1),
        )


def on_test(rivals: Heads, data: SetData) -> Sequence[Sequence[Point]]:
    """What each of a cell's candidates does on the test pictures, for `test-oracle`.

    The log probability of a point is the logarithm [1] of the share of them that is right.
    """
    labels = torch.tensor(data.open_test_labels(), device=data.device)
    found = on_pictures(rivals, data.test_query(rivals.method), labels, data)
    share = torch.arange(len(labels) + 1, device=data.device).div(len(labels)).log()
    return [
        [replace(point, log_p=share[point.hits : point.hits + 1]) for point in own] for own in found
    ]


def score(
    method: Method,
    params: Params,
    data: SetData,
    temperatures: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
) -> Scores:
    """Run the test pictures through W settled variants and compare with the labels.

    Args:
        method: with its static settings.
        params: of W variants.
        data: the feature set.
        temperatures: what divides the logits of each before the softmax; 1 by default.
        seeds: of each, for the order in which a stream comes; by default that of the store.
    """
    labels = torch.tensor(data.open_test_labels(), device=data.device)  # [n]
    T = torch.tensor(temperatures or [1.0], device=data.device)
    parts = logits_in_parts(method, params, data.test_query(method), data.limit, seeds)
    told = _Told.cat([_Told.of(x, labels[first:last], T) for first, last, x in parts])
    predicted = told.top[..., 0]
    right = predicted == labels  # [W, n]
    kind = class_type(len(data.classnames))
    ece = [calibration_error(p, right.cpu()) for p in told.top_p.cpu()]
    return Scores(
        top1=right.sum(1).double().div(len(labels)).cpu().numpy(),
        predicted=predicted.cpu().numpy().astype(kind),
        true_log_p=_held(told.true_log_p[1]),
        top_p=told.top_p[1].cpu().numpy().astype(np.float16),
        ece=np.stack(ece, 1),
        nll=-told.true_log_p.double().mean(2).mT.cpu().numpy(),
        true_rank=told.true_rank.cpu().numpy().astype(kind),
        top=told.top.cpu().numpy().astype(kind),
        top_log_p=_held(told.top_log_p),
        label=labels.cpu().numpy().astype(kind),
        zero_shot=data.zero_shot,
    )


def _held(log_p: Tensor) -> NDArray[np.float16]:
    """Log probabilities as float16, the least ones as the least that it holds."""
    return log_p.clamp_min(LEAST).cpu().numpy().astype(np.float16)
