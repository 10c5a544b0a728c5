"""ProLIP: the last projection of the image tower is tuned, and held back by what it was."""

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

PICTURES = "pre-projection"


class Prolip(Trained):
    """Logits s z t_c with z = norm(v P + b), loss + strength |P - P0|^2 (2410.05270, equation 2).

    v [E] is the feature before the encoder's projection P0 [E, D], whose bias b (of ResNets) stays;
    the penalty is the sum over all entries. Adam with eps 1e-4, 300 steps on all support pictures,
    a cosine to 0. Each step of the release takes a new crop of each picture; here it takes the next
    of their `views`, by default the picture itself. Constants are those of the runs that the
    authors make without validation pictures: strength 1 / K for K shots, lr 1e-5. Their search
    tries 49 pairs, lr from 1e-2 to 1e-8 and strength from 10 to 0; the grid here is its middle.
    """

    paper = "2410.05270"
    reads = Reads(
        support=(PICTURES,),
        query=(PICTURES,),
        text=("norm-mean",),
        encoder=("projection", "projection-bias"),
    )
    size = "E * D"
    trainable = ("projection",)
    transfers = True
    eps = 1e-4
    table = {
        **PULL,
        **steps(lr=1e-5, epochs=300, batch_size=10**6, optimizer="adam"),
        **VIEWS,
    }

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """A pull of 1 / K."""
        return pull_by_shots(shots)

    def init(self, task: Task, random: Generators) -> Params:
        """The encoder's projection."""
        text = task.class_text("norm-mean")
        V = len(text)
        before, bias = (task.encoder[name].to(text) for name in self.reads.encoder)
        before = before.expand(V, *before.shape)  # [V, E, D]
        return {
            "weight": text,
            "projection": before,
            "before": before,
            "projection_bias": bias.expand(V, -1),
            "strength": task.settings["strength"],
            "logit_scale": text.new_full((V,), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """The projection beside any classes' text; what it was is needed no more."""
        own = {name: params[name] for name in ("projection", "projection_bias", "logit_scale")}
        return own | {"weight": task.class_text("norm-mean")}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        z = unit(query[PICTURES] @ params["projection"] + params["projection_bias"][:, None])
        return cosine_logits(Query({"image": z}), params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy and the pull, [V]."""
        away = (params["projection"] - params["before"]).square().sum((1, 2))
        logits = self.logits(params, batch.query)
        return mean_cross_entropy(logits, batch.labels) + params["strength"] * away

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """The loss's own kernel, one product, and the pull as rows of both projections."""
        v = batch.query[PICTURES]
        y = v @ params["projection"] + params["projection_bias"][:, None]  # [V, B, D]
        strength = 2 * params["strength"][:, None]
        return {"projection": pulled(of_map(v, y, params, batch), strength, params["before"])}
