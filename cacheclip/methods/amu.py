"""AMU-Tuning: a linear head on a second encoder's features, heeded where zero-shot is unsure."""

from torch import Tensor

from cacheclip.heads.auxiliary import standard, standard_grad, unsure
from cacheclip.heads.classes import class_means
from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import residual
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task

READ = ("image", "aux:image")


class Amu(Trained):
    """Logits Z + alpha u(Z) a, a = (x' W^T - mean) / deviation over the classes (2404.08958).

    Z = s x T^T is zero-shot, x' the unit feature of the second encoder (`--aux`), W starts at the
    means of the classes' own x'. Loss: share CE(logits) + (1 - share) CE(a). u = (k / (C / 4)) to
    the -`power`, where k is the fourth moment of the zero-shot probabilities, standardised over
    the C classes: the surer zero-shot, the less a counts. AdamW, lr 1e-3, decay 0.01, eps 1e-4,
    batches of 8, 50 epochs, cosine.

    Recipes. as-code: power 0 and so u = 1, which is what the released command runs. as-paper: the
    power of 0.4 that the released code has for u.

    The release divides k by 250, and knows ImageNet alone: a quarter of its classes, and so of any
    here. It keeps the epoch that is best on the test set; here it is the last. Each of its epochs
    crops the pictures anew; here it takes the next of their `views`.
    """

    paper = "2404.08958"
    reads = Reads(support=READ, query=READ, text=("norm-mean",))
    size = "C * D2"
    trainable = ("weight",)
    eps = 1e-4
    table = {
        "alpha": Setting(0.5, 0.0, 1e6, grid=(0.0, 0.25, 0.5, 1.0, 2.0), zero_shot="low"),
        "share": Setting(0.35, 0.0, 1.0),
        "power": Setting(0.0, 0.0, 10.0),
        **steps(epochs=50, batch_size=8, weight_decay=0.01),
        "lr": Setting(1e-3, 0.0),  # of unit features: the logit scale is not before them
        **VIEWS,
    }
    recipes = {"as-code": {}, "as-paper": {"power": 0.4}}
    off = {"alpha": 0.0}

    def init(self, task: Task, random: Generators) -> Params:
        """The class means of the second encoder."""
        text, views = task.class_text("norm-mean"), task.flat()
        return {
            "weight": class_means(views.support()["aux:image"], views.labels, task.n_classes),
            "text": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            **{name: task.settings[name] for name in ("alpha", "share", "power")},
        }

    def head(self, params: Params, task: Task) -> Params:
        """Without what the loss alone reads."""
        return {name: x for name, x in params.items() if name != "share"}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        zero_shot, worth = self._worth(params, query)
        return zero_shot + worth * standard(query["aux:image"] @ params["weight"].mT)

    def _worth(self, params: Params, query: Query) -> tuple[Tensor, Tensor]:
        """Z [V, n, C], and what a standardised logit counts beside it, alpha u [V, n, 1]."""
        zero_shot = cosine_logits(query, params["text"], params["logit_scale"])
        return zero_shot, params["alpha"][:, None, None] * unsure(zero_shot, params["power"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """The mean cross-entropies of both logits [V]."""
        zero_shot, worth = self._worth(params, batch.query)
        own, share = standard(batch.query["aux:image"] @ params["weight"].mT), params["share"]
        of_both = mean_cross_entropy(zero_shot + worth * own, batch.labels)
        return share * of_both + (1 - share) * mean_cross_entropy(own, batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """One product, of what the standardisation leaves of the residuals."""
        x, share = batch.query["aux:image"], params["share"][:, None, None]
        zero_shot, worth = self._worth(params, batch.query)
        raw = x @ params["weight"].mT
        own = standard(raw)
        r = share * worth * residual(zero_shot + worth * own, batch.labels)
        r += (1 - share) * residual(own, batch.labels)
        return {"weight": Outer(standard_grad(r, own, raw), x)}
