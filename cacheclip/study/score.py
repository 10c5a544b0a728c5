"""The one place that opens test labels. It is handed settled params and chooses nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cacheclip.answers import Classes, class_type
from cacheclip.engine.stack import logits_in_parts
from cacheclip.methods.base import Method, Params
from cacheclip.metrics import calibration_error, hits, true_log_probability, true_rank
from cacheclip.study.data import SetData

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
            self.label,
            self.zero_shot,
        )


def score(
    method: Method, params: Params, data: SetData, temperatures: Sequence[float] | None = None
) -> Scores:
    """Run the test pictures through W settled variants and compare with the labels.

    Args:
        method: with its static settings.
        params: of W variants.
        data: the feature set.
        temperatures: what divides the logits of each before the softmax; 1 by default.
    """
    labels = torch.tensor(data.open_test_labels(), device=data.device)  # [n]
    T = torch.tensor(temperatures or [1.0], device=data.device)[:, None, None]
    right, predicted, ranks = [], [], []
    true_log_p: list[tuple[Tensor, Tensor]] = []  # as they come, and calibrated
    top_p: list[tuple[Tensor, Tensor]] = []
    for first, last, logits in logits_in_parts(method, params, data.test_query(method), data.limit):
        part = labels[first:last]
        right.append(hits(logits, part))
        raw, warm = logits.float(), logits.float() / T
        predicted.append(logits.argmax(-1))  # [W, n]
        top_p.append((raw.softmax(-1).amax(-1), warm.softmax(-1).amax(-1)))
        true_log_p.append((true_log_probability(raw, part), true_log_probability(warm, part)))
        ranks.append(true_rank(logits, part))
    told = torch.cat(predicted, 1)
    tops = [torch.cat(x, 1) for x in zip(*top_p, strict=True)]  # [W, n] twice
    log_p = [torch.cat(x, 1) for x in zip(*true_log_p, strict=True)]
    kind = class_type(len(data.classnames))
    return Scores(
        top1=torch.stack(right).sum(0).double().div(len(labels)).cpu().numpy(),
        predicted=told.cpu().numpy().astype(kind),
        true_log_p=log_p[1].clamp_min(LEAST).cpu().numpy().astype(np.float16),
        top_p=tops[1].cpu().numpy().astype(np.float16),
        ece=torch.stack([calibration_error(p, told == labels) for p in tops], 1).cpu().numpy(),
        nll=torch.stack([-p.double().mean(1) for p in log_p], 1).cpu().numpy(),
        true_rank=torch.cat(ranks, 1).cpu().numpy().astype(kind),
        label=labels.cpu().numpy().astype(kind),
        zero_shot=data.zero_shot,
    )
