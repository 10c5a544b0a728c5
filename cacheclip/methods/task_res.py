"""TaskRes: a free residual beside each class's frozen text."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import cosine_grad, of_residual
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Settings, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit


class TaskRes(Trained):
    """Logits s x w_c / |w_c| with w = T + alpha R, R from 0 (2211.10277, equations 4 and 5).

    T is the mean of each class's raw text, so alpha R counts against its norm; pictures are unit
    rows. The recipe is the released one: Adam with its decay of 5e-4 in the gradient, lr 2e-3,
    batches of 256, 100 epochs up to four shots and 200 above, a rate an epoch, the last step. The
    release takes lr 2e-4 for ImageNet and alpha 1 for Flowers102: here both are the user's to give.
    Each of its epochs crops the pictures anew; here it takes the next of their `views`, by default
    the picture itself. This is its regular base; the enhanced one, whose text projection is tuned
    first, is not here.
    """

    paper = "2211.10277"
    reads = Reads(text=("raw-mean",))
    size = "C * D"
    trainable = ("residual",)
    drop_last = True
    table = {
        "alpha": Setting(
            0.5,
            0.0,
            1e6,
            grid=(0.0, 0.1, 0.5, 1.0),
            zero_shot="low",
            elsewhere="alpha; RESIDUAL_SCALE",
        ),
        **steps(lr=2e-3, optimizer="adam", weight_decay=5e-4, schedule="dassl"),
        **VIEWS,
    }
    off = {"alpha": 0.0}

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """100 epochs up to four shots, 200 above."""
        return {"epochs": 100 if shots < 8 else 200}

    def init(self, task: Task, random: Generators) -> Params:
        """No residual: zero-shot."""
        text = task.class_text("raw-mean")
        return {
            "text": text,
            "residual": text.new_zeros(text.shape),
            "alpha": task.settings["alpha"],
            "logit_scale": text.new_full((len(text),), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """The sum as unit rows: text and residual are needed no more."""
        return {"weight": unit(_weight(params)), "logit_scale": params["logit_scale"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """One product, and what its projection off w has of T and of R."""
        of_weight = cosine_grad(batch.query, batch.labels, _weight(params), params["logit_scale"])
        return {"residual": of_residual(of_weight, params["alpha"], params["text"])}


def _weight(params: Params) -> Tensor:
    return params["text"] + params["alpha"][:, None, None] * params["residual"]
