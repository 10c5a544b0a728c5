"""Tip-Adapter without training: a key/value cache of the support set votes beside zero-shot."""

from torch import Tensor

from cacheclip.heads.cache import Cache, cache_logits, cache_of, zero_shot_of
from cacheclip.heads.cache_search import RANGES, tune
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, from_zero
from cacheclip.task import Query, Task


class TipAdapter(ClosedForm):
    """Logits s x T^T + alpha exp(-beta (1 - x K^T)) Y (2111.03930, equations 4 and 5).

    Keys K are unit rows along the mean of the raw features of each support picture's `views`: one
    by default, the picture itself, where the release takes ten crops. Values Y are their labels,
    one-hot. The constants are the paper's for ImageNet. A selecting policy searches 200 values of
    beta, which span those of the released searches, and for each all alphas from 0, zero-shot, to
    50, the end of the widest of them; of alphas with equal hits the one nearest to 0 counts.
    alpha counts in logits, whose spread is about the same at every logit scale, so it is not
    rescaled: at scale 16 the best alpha was larger than at 100, not smaller.
    """

    paper = "2111.03930"
    reads = Reads(support=("image", "image-norm"), text=("norm-mean",))
    table = {
        "alpha": from_zero(1.0, RANGES["alpha"]),
        "beta": from_zero(5.5, RANGES["beta"]),
        **VIEWS,
    }
    off = {"alpha": 0.0}

    def solve(self, task: Task) -> Params:
        """The cache: nothing is computed, the support set is the model."""
        return cache_of(task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        x, zero_shot = query["image"], zero_shot_of(params, query)
        return cache_logits(x, Cache.of(params), zero_shot, params["alpha"], params["beta"])

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Whichever of alpha and beta is to be searched."""
        if not self.searched:
            return None
        x, zero_shot = query["image"], zero_shot_of(params, query)
        constants = params["alpha"], params["beta"]
        cache = Cache.of(params)
        return Found(*tune(x, cache, zero_shot, labels, *constants, self.searched, folds))
