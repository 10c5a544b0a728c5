"""The one place that opens test labels: for settled params, whose choice is over.

`on_test` alone goes before a choice, that of the policy `test-oracle`, whose rows are marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cacheclip.answers import Answered, Classes
from cacheclip.engine.stack import logits_in_parts
from cacheclip.methods.base import Method, Params
from cacheclip.metrics import calibration_error
from cacheclip.study.data import SetData
from cacheclip.study.evidence import on_pictures
from cacheclip.study.heads import Heads
from cacheclip.study.race import Point
from cacheclip.study.targets import Target
from cacheclip.study.told import Told


@dataclass(frozen=True)
class Scores:
    """Test results of W variants.

    Attributes:
        top1: [W] fractions.
        answers: of each, for the n test pictures at its temperature.
        ece, nll: [W, 2], calibration error and mean negative log probability of the label, as the
            logits come and at that temperature.
        zero_shot: [n], what the text alone predicts; None where there is none.
    """

    top1: NDArray[np.float64]
    answers: tuple[Answered, ...]
    ece: NDArray[np.float64]
    nll: NDArray[np.float64]
    zero_shot: Classes | None

    @property
    def label(self) -> Classes:
        """The labels [n] of the test pictures."""
        return self.answers[0].label

    @property
    def predicted(self) -> Classes:
        """The class [W, n] of the largest logit."""
        return np.stack([answered.predicted for answered in self.answers])

    def of(self, variant: int) -> "Scores":
        """The results of one variant, its axis kept."""
        one = slice(variant, variant + 1)
        return Scores(
            self.top1[one], self.answers[one], self.ece[one], self.nll[one], self.zero_shot
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
    target: Target | None = None,
    *,
    keep_logits: bool = False,
) -> Scores:
    """Run the test pictures through W settled variants and compare with the labels.

    Args:
        method: with its static settings.
        params: of W variants.
        data: the feature set.
        temperatures: what divides the logits of each before the softmax; 1 by default.
        seeds: of each, for the order in which a stream comes; by default that of the store.
        target: what they are tested on; by default the classes of the feature set.
        keep_logits: whether the answers are to have all logits.
    """
    target = target or Target(data, data)
    labels = torch.tensor(target.data.open_test_labels(), device=data.device)  # [n]
    T = torch.tensor(temperatures or [1.0], device=data.device)
    parts = logits_in_parts(method, params, target.query(method), data.limit, seeds)
    told = Told.cat(
        [
            Told.of(target.of_these(method, x), labels[first:last], T, keep_logits=keep_logits)
            for first, last, x in parts
        ]
    )
    right = told.top[..., 0] == labels  # [W, n]
    ece = [calibration_error(p, right.cpu()) for p in told.top_p.cpu()]
    return Scores(
        top1=right.sum(1).double().div(len(labels)).cpu().numpy(),
        answers=tuple(told.answered(len(target.data.classnames))),
        ece=np.stack(ece, 1),
        nll=-told.true_log_p.double().mean(2).mT.cpu().numpy(),
        zero_shot=target.zero_shot,
    )
