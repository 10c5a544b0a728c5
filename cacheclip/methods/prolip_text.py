"""ProLIP's text twin: the last projection of the text tower is tuned, and held back."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import cosine_grad, pulled
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import PULL, Params, Reads, Settings, Trained, pull_by_shots, steps
from cacheclip.task import Batch, Generators, Query, Task, unit


class ProlipText(Trained):
    """Logits s x w_c / |w_c| with w = H P, loss + strength |P - P0|^2 (2410.05270, on the text).

    P0 [d, D] is the last map of the text tower, and H [C, d] the mean of each class's prompts
    before it, found back from the stored text by the pseudoinverse: exact, as P0 of CLIP loses
    nothing. So P starts at zero-shot by the mean of raw prompts. Recipe and constants are ProLIP's
    without validation pictures: Adam with eps 1e-4, 300 steps on all support pictures, a cosine to
    0, strength 1 / K for K shots. The authors give no rate for the text alone: 1e-4 is where its
    steps come to rest.
    """

    paper = "2410.05270"
    reads = Reads(text=("raw-mean",), encoder=("text-projection",))
    size = "d * D"
    trainable = ("projection",)
    transfers = True
    eps = 1e-4
    table = {
        **PULL,
        **steps(lr=1e-4, epochs=300, batch_size=10**6, optimizer="adam"),
    }

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """A pull of 1 / K."""
        return pull_by_shots(shots)

    def init(self, task: Task, random: Generators) -> Params:
        """The text tower's projection."""
        text = _before_projection(task)
        V = len(text)
        projection = task.encoder["text-projection"].to(text).expand(V, -1, -1)  # [V, d, D]
        return {
            "text": text,
            "projection": projection,
            "before": projection,
            "strength": task.settings["strength"],
            "logit_scale": text.new_full((V,), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """Any classes' text through the projection, as unit rows."""
        weight = unit(_before_projection(task) @ params["projection"])
        return {"weight": weight, "logit_scale": params["logit_scale"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy and the pull, [V]."""
        weight = unit(params["text"] @ params["projection"])
        logits = cosine_logits(batch.query, weight, params["logit_scale"])
        away = (params["projection"] - params["before"]).square().sum((1, 2))
        return mean_cross_entropy(logits, batch.labels) + params["strength"] * away

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """That of the weight rows [V, C, D], one product, and the pull."""
        text = params["text"]
        weight = text @ params["projection"]
        of_weight = cosine_grad(batch.query, batch.labels, weight, params["logit_scale"])
        of_loss, strength = Outer(text, of_weight.formed(weight)), 2 * params["strength"][:, None]
        return {"projection": pulled(of_loss, strength, params["before"])}


def _before_projection(task: Task) -> Tensor:
    """H [V, C, d]; in float64, for the projection may be ill-conditioned."""
    text = task.class_text("raw-mean")
    back: Tensor = torch.linalg.pinv(task.encoder["text-projection"].double())  # [D, d]
    before = text[0].double() @ back  # [C, d]
    return before.to(text).expand(len(text), -1, -1)
