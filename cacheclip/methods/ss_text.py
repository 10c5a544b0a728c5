"""SS-Text: class text moved by the sum of the class's pictures, without a step."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task

GRID = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)


class SsText(ClosedForm):
    """Logits s x w_c with w_c = t_c + strength s sum_(i of c) x_i, s / 100 for s (2506.17500).

    It is where the slope of sum_i -s x_i w_y meets that of |w - t|^2 / strength: nothing is
    trained or tuned, and shots may be unequal. strength = 100, the paper's lambda of 1 / N at the
    logit scale 100, is the constant; 0 is zero-shot, and a selecting policy tries decades between.
    All views of a picture count, each as one over how many there are. w is not made unit again.
    The variant with a lambda by class is not here.
    """

    paper = "2506.17500"
    reads = Reads(text=("norm-mean",))
    table = {"strength": Setting(1.0, 0.0, 1e6, grid=GRID, zero_shot="low")}
    off = {"strength": 0.0}

    def solve(self, task: Task) -> Params:
        """The moved text."""
        return {}
