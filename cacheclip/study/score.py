"""The one place that opens test labels. It is handed settled params and chooses nothing."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cacheclip.engine.stack import logits_in_parts
from cacheclip.methods.base import Method, Params
from cacheclip.metrics import hits, true_log_probability, true_rank
from cacheclip.study.data import SetData


@dataclass(frozen=True)
class Scores:
    """Test results of W variants.

    Attributes:
        top1: [W] fractions.
        predicted: [W, n] uint16, the class of the largest logit.
        true_log_p: [W, n] float16, log probability of the label.
        top_p: [W, n] float16, probability of the prediction.
        true_rank: [W, n] uint16, how many classes stand before the label.
        label: [n] uint16.
        zero_shot: [n] uint16, what the text alone predicts; None where there is none.
    """

    top1: NDArray[np.float64]
    predicted: NDArray[np.uint16]
    true_log_p: NDArray[np.float16]
    top_p: NDArray[np.float16]
    true_rank: NDArray[np.uint16]
    label: NDArray[np.uint16]
    zero_shot: NDArray[np.uint16] | None

    def of(self, variant: int) -> "Scores":
        """The results of one variant, its axis kept."""
        one = slice(variant, variant + 1)
        return Scores(
            self.top1[one],
            self.predicted[one],
            self.true_log_p[one],
            self.top_p[one],
            self.true_rank[one],
            self.label,
            self.zero_shot,
        )


def score(method: Method, params: Params, data: SetData) -> Scores:
    """Run the test pictures through W settled variants and compare with the labels."""
    rows = data.good_rows("test")
    all_labels = data.features.labels.splits["test"].labels
    labels = torch.tensor([all_labels[row] for row in rows], device=data.device)  # [n]
    right, predicted, true_log_p, top_p, ranks = [], [], [], [], []
    for first, last, logits in logits_in_parts(method, params, data.test_query(method), data.limit):
        part = labels[first:last]
        right.append(hits(logits, part))
        best_p, best = logits.float().softmax(-1).max(-1)  # [W, n]
        predicted.append(best)
        top_p.append(best_p)
        true_log_p.append(true_log_probability(logits, part))
        ranks.append(true_rank(logits, part))
    return Scores(
        top1=torch.stack(right).sum(0).double().div(len(labels)).cpu().numpy(),
        predicted=torch.cat(predicted, 1).cpu().numpy().astype(np.uint16),
        true_log_p=torch.cat(true_log_p, 1).cpu().numpy().astype(np.float16),
        top_p=torch.cat(top_p, 1).cpu().numpy().astype(np.float16),
        true_rank=torch.cat(ranks, 1).cpu().numpy().astype(np.uint16),
        label=labels.cpu().numpy().astype(np.uint16),
        zero_shot=data.zero_shot,
    )
