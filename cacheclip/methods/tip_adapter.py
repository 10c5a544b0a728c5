"""Tip-Adapter without training: a key/value cache of the support set votes beside zero-shot."""

from torch import Tensor

from cacheclip.heads.cache import cache_votes
from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import ClosedForm, Params
from cacheclip.task import Query, Task


class TipAdapter(ClosedForm):
    """Logits s x T^T + alpha exp(-beta (1 - x K^T)) Y (2111.03930, equations 4 and 5).

    Keys K are the unit support features of the plain view, values Y their one-hot labels. The
    constants are the paper's for ImageNet; the grid spans those that the released searches span.
    alpha counts in logits, whose spread is about the same at every logit scale, so it is not
    rescaled: at scale 16 the best alpha was larger than at 100, not smaller.
    """

    paper = "2111.03930"
    text = ("norm-mean",)
    vector = ("alpha", "beta")
    defaults = {"alpha": 1.0, "beta": 5.5}
    bounds = {"beta": (0.0, 1e6)}
    grid = {
        "alpha": (0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0),
        "beta": (1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0, 50.0),
    }

    def solve(self, task: Task) -> Params:
        """The cache: nothing is computed, the support set is the model."""
        text = task.class_text("norm-mean")
        return {
            "weight": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            "keys": task.support()["image"],
            "labels": task.labels,
            "alpha": task.settings["alpha"],
            "beta": task.settings["beta"],
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        zero_shot = cosine_logits(query, params["weight"], params["logit_scale"])
        n_classes = params["weight"].shape[1]
        votes = cache_votes(
            query["image"], params["keys"], params["labels"], params["beta"], n_classes
        )
        return zero_shot + params["alpha"][:, None, None] * votes
