"""CLAP: a linear probe from the class text, which holds each class back as far as it knows it."""

from torch import Tensor

from cacheclip.heads.classes import class_means
from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import cosine_grad, pulled
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit


class Clap(Trained):
    """Logits s x w_c / |w_c|, loss + mean_c lambda_c |w_c - t_c|^2 (2312.12730, equations 7, 8).

    W starts at T, the mean of each class's raw text. lambda_c is the mean probability that T gives
    the class's own support pictures, all views of them, and stays as it is: the released default,
    in which nothing is tuned and no multiplier is updated. `strength` multiplies all lambdas; 0 is
    the probe without a pull (ZS-LP). SGD with momentum 0.9, lr 0.1, no decay, batches of 256, 300
    epochs, a rate an epoch, the last step.

    An epoch is max(1, floor(N / 256)) steps, as released. There each of its batches is drawn from
    all of twenty crops of all pictures; here an epoch takes the next of their `views`, by default
    the picture itself.
    """

    paper = "2312.12730"
    reads = Reads(text=("raw-mean",))
    size = "C * D"
    trainable = ("weight",)
    drop_last = True
    table = {
        "strength": Setting(
            1.0, 0.0, 1e6, power=2.0, zero_shot="high", elsewhere="a factor of every lambda_c"
        ),
        **steps(lr=0.1, epochs=300, optimizer="sgd", schedule="dassl"),
        **VIEWS,
    }

    def init(self, task: Task, random: Generators) -> Params:
        """The class text, and how strongly it pulls."""
        text = task.class_text("raw-mean")
        V, C, _ = text.shape
        scale = text.new_full((V,), task.logit_scale)
        views = task.flat()
        p = cosine_logits(views.support(), unit(text), scale).softmax(-1)  # [V, N W, C]
        own = p.gather(-1, views.labels.unsqueeze(-1)).squeeze(-1)  # [V, N W]
        known = class_means(own.unsqueeze(-1), views.labels, C).squeeze(-1)  # lambda [V, C]
        pull = task.settings["strength"][:, None] * known
        return {"weight": text, "text": text, "pull": pull, "logit_scale": scale}

    def head(self, params: Params, task: Task) -> Params:
        """Unit rows: the text that pulled is needed no more."""
        return {"weight": unit(params["weight"]), "logit_scale": params["logit_scale"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy and the pull, [V]."""
        away = (params["weight"] - params["text"]).square().sum(-1)  # [V, C]
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels) + (params["pull"] * away).mean(-1)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """One product, and the pull as rows of the weight and of the text."""
        of_loss = cosine_grad(batch.query, batch.labels, params["weight"], params["logit_scale"])
        strength = 2 / batch.task.n_classes * params["pull"]  # [V, C]
        return {"weight": pulled(of_loss, strength, params["text"])}
