"""The regularised linear adapter: one map of the picture's feature, held back by the identity."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import of_map, pulled
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import (
    PULL,
    VIEWS,
    Params,
    Reads,
    Settings,
    Trained,
    pull_by_shots,
    steps,
)
from cacheclip.task import Batch, Generators, Query, Task, unit


class LinearAdapter(Trained):
    """Logits s z t_c with z = norm(x A), loss + strength |A - I|^2, A [D, D] from I (2410.05270).

    It is ProLIP for features whose projection nobody kept: the map comes after it. The penalty is
    the sum over all entries. The recipe is ProLIP's without validation pictures: Adam with eps
    1e-4, 300 steps on all support pictures, the next of their `views` in each step, a cosine to 0,
    strength 1 / K for K shots. Of the authors' rates, 1e-5 to 1e-2, it is 1e-4: from there on the
    steps come to rest and the rate no longer counts.
    """

    paper = "2410.05270"
    reads = Reads(text=("norm-mean",))
    size = "D * D"
    trainable = ("map",)
    transfers = True
    eps = 1e-4
    table = {
        **PULL,
        **steps(lr=1e-4, epochs=300, batch_size=10**6, optimizer="adam"),
        **VIEWS,
    }

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """A pull of 1 / K."""
        return pull_by_shots(shots)

    def init(self, task: Task, random: Generators) -> Params:
        """The identity."""
        text = task.class_text("norm-mean")
        V, _, D = text.shape
        identity = torch.eye(D, device=text.device, dtype=text.dtype).expand(V, D, D)
        return {
            "weight": text,
            "map": identity,
            "identity": identity,
            "strength": task.settings["strength"],
            "logit_scale": text.new_full((V,), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """The map beside any classes' text."""
        own = {name: params[name] for name in ("map", "logit_scale")}
        return own | {"weight": task.class_text("norm-mean")}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        z = unit(query["image"] @ params["map"])
        return cosine_logits(Query({"image": z}), params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy and the pull, [V]."""
        away = (params["map"] - params["identity"]).square().sum((1, 2))
        logits = self.logits(params, batch.query)
        return mean_cross_entropy(logits, batch.labels) + params["strength"] * away

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """The loss's own kernel, one product, and the pull as rows of the map and the identity."""
        x = batch.query["image"]
        of_loss = of_map(x, x @ params["map"], params, batch)
        return {"map": pulled(of_loss, 2 * params["strength"][:, None], params["identity"])}
