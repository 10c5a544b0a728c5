"""The nearest class mean: cosine to the mean of the class's unit support features."""

from torch import Tensor

from cacheclip.heads.classes import class_sums
from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import ClosedForm, Params
from cacheclip.task import Query, Task, unit


class NearestMean(ClosedForm):
    """Prototype classifier: w_c = mean of the support rows of class c; needs no text."""

    paper = "1703.05175"

    def solve(self, task: Task) -> Params:
        """The class means."""
        x = task.support()["image"]  # [V, N, D]
        sums = class_sums(x, task.labels, task.n_classes)  # a mean's direction is its sum's
        return {"weight": unit(sums), "logit_scale": x.new_full((len(x),), task.logit_scale)}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])
