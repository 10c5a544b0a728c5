"""ZS-LP: a linear probe on unit rows that starts from the class text."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import cosine_grad
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import VIEWS, Params, Reads, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit


class ZsLp(Trained):
    """Logits s x w_c / |w_c|, W from T, cross-entropy alone (2312.12730, section 3.2).

    T is the mean of each class's raw text. The recipe is CLAP's without its pull: SGD with momentum
    0.9, lr 0.1, no decay, batches of 256, 300 epochs, a rate an epoch, the last step. Nothing holds
    the classes back, so that few shots may lead below zero-shot. An epoch takes the next of the
    pictures' `views`, by default the picture itself, where the release pools twenty crops.
    """

    paper = "2312.12730"
    reads = Reads(text=("raw-mean",))
    size = "C * D"
    trainable = ("weight",)
    drop_last = True
    table = {**steps(lr=0.1, epochs=300, optimizer="sgd", schedule="dassl"), **VIEWS}

    def init(self, task: Task, random: Generators) -> Params:
        """The class text."""
        text = task.class_text("raw-mean")
        return {"weight": text, "logit_scale": text.new_full((len(text),), task.logit_scale)}

    def head(self, params: Params, task: Task) -> Params:
        """Unit rows."""
        return params | {"weight": unit(params["weight"])}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """One product, and what its projection off w has of w."""
        weight, scale = params["weight"], params["logit_scale"]
        return {"weight": cosine_grad(batch.query, batch.labels, weight, scale)}
