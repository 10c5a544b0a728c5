"""The linear probe of the CLIP paper: L2-penalised multinomial logistic regression."""

from dataclasses import replace

import torch
from torch import Tensor

from cacheclip.heads.logistic import logistic_regression
from cacheclip.methods.base import CLASS_WEIGHT, PRIOR, ClosedForm, Params, Setting
from cacheclip.task import Query, Task


class LinearProbe(ClosedForm):
    """scikit-learn's objective on unit image features, with intercept, solved to its optimum.

    C is scikit-learn's. It belongs to unit features: on features of norm r the same probe has
    C / r^2 (CLIP's 0.316 on norms near 10 is about 32 here). Needs no text. Where classes are
    unequal, class_weight=balanced counts each the same, as scikit-learn does; prior=uniform takes
    the support's class shares off the bias instead.
    """

    paper = "2103.00020"
    table = {
        "C": Setting(100.0, 1e-9, 1e9, grid=(0.1, 1.0, 10.0, 32.0, 100.0, 316.0, 1000.0, 10000.0)),
        **CLASS_WEIGHT,
        **PRIOR,
    }

    def solve(self, task: Task) -> Params:
        """The optimum of every variant; those of one draw share its decomposition."""
        both = torch.stack([task.rows, task.labels])  # [2, V, N]
        (rows, labels), draw = torch.unique(both, dim=1, return_inverse=True)
        x = replace(task, rows=rows, labels=labels).support()["image"]  # [U, N, D]
        weights = None
        if task.weights is not None:  # equal where the labels are: any variant of a draw has them
            which = draw.new_zeros(len(x)).scatter_(0, draw, torch.arange(len(draw)).to(draw))
            weights = task.weights[which]
        weight, bias = logistic_regression(
            x, labels, draw, task.settings["C"], task.n_classes, weights
        )
        return {"weight": weight, "bias": bias}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return query["image"] @ params["weight"].transpose(1, 2) + params["bias"][:, None]
