"""Tip-Adapter-F: the cache's keys are trained, its values and the text stay."""

from torch import Tensor

from cacheclip.heads.cache import Cache, cache_grad, cache_logits, cache_of, zero_shot_of
from cacheclip.heads.cache_search import RANGES, tune
from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import (
    CLASS_WEIGHT,
    PRIOR,
    VIEWS,
    Found,
    Params,
    Reads,
    Setting,
    Trained,
    from_zero,
    steps,
)
from cacheclip.task import Batch, Generators, Query, Task


class TipAdapterF(Trained):
    """Tip-Adapter's logits with keys that start at the support features and then move.

    Keys are not normalised again, so a vote may exceed 1. The recipe is the released one: AdamW
    with lr 1e-3, eps 1e-4 and decay 0.01, 20 epochs in batches of 256, a cosine per step. Alpha and
    beta are constants while the keys are trained; a selecting policy then searches them as for
    Tip-Adapter. The released code also keeps the epoch that is best on the test set: not here, the
    last one counts. Keys start along the mean of the raw features of `views` of each picture, and
    each epoch takes the next one; by default it is the picture itself, in the release ten crops for
    the keys and a new one an epoch.
    """

    paper = "2111.03930"
    reads = Reads(support=("image", "image-norm"), text=("norm-mean",))
    eps = 1e-4
    table = {
        "alpha": from_zero(1.0, RANGES["alpha"]),
        "beta": from_zero(5.5, RANGES["beta"]),
        **steps(
            epochs=20,
            batch_size=256,
            optimizer="adamw",
            weight_decay=0.01,
            schedule="cosine",
        ),
        "lr": Setting(1e-3, low=0.0),  # votes do not grow with the logit scale
        **CLASS_WEIGHT,
        **PRIOR,
        **VIEWS,
    }
    off = {"alpha": 0.0}

    @property
    def trainable(self) -> tuple[str, ...]:
        """The keys."""
        return ("keys",)

    def init(self, task: Task, random: Generators) -> Params:
        """Tip-Adapter's cache: nothing is random."""
        return cache_of(task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        x, zero_shot = query["image"], zero_shot_of(params, query)
        return cache_logits(x, Cache.of(params), zero_shot, params["alpha"], params["beta"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        return mean_cross_entropy(self.logits(params, batch.query), batch.labels, batch.weights)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """Two products and no gradient in memory."""
        x, zero_shot = batch.query["image"], zero_shot_of(params, batch.query)
        cache, alpha, beta = Cache.of(params), params["alpha"], params["beta"]
        grad = cache_grad(x, cache, zero_shot, alpha, beta, batch.labels, batch.weights)
        return {"keys": grad}

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Whichever of alpha and beta is to be searched."""
        if not self.searched:
            return None
        x, zero_shot = query["image"], zero_shot_of(params, query)
        constants = params["alpha"], params["beta"]
        cache = Cache.of(params)
        return Found(*tune(x, cache, zero_shot, labels, *constants, self.searched, folds))
