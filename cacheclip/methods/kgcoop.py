"""KgCoOp: CoOp whose class text is held near that of the templates."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.prompts import prompted
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task


class KgCoop(Trained):
    """CoOp, loss + strength mean_c (1 - w_c t_c), t the class text of the templates (2303.13283).

    The vectors [v_1] ... [v_M] before the name start as the words "a photo of a" and are shared by
    all classes; w_c is the unit text of class c that they come to. The recipe is the released one:
    SGD with momentum 0.9, lr 2e-3, decay 5e-4, batches of 128, 100 epochs, a rate an epoch, the
    last step. Here it is float32, and t is the mean of all of the set's templates, where the
    release has one. `views` count as for CoOp.

    Recipes. as-code: the cosine distance above, strength 8. as-paper: 8 |w_c - t_c|^2, which of
    unit rows is twice that distance, so strength 16.
    """

    paper = "2303.13283"
    reads = Reads(text=("tokens", "norm-mean"), encoder=("tower",))
    size = "M * d"
    trainable = ("context",)
    transfers = True
    drop_last = True
    fused = False
    table = {
        "strength": Setting(8.0, 0.0, 1e6, power=2.0, zero_shot="high", elsewhere="lambda; W"),
        **steps(batch_size=128, optimizer="sgd", weight_decay=5e-4, schedule="dassl"),
        "lr": Setting(2e-3, 0.0),  # in the size of words: the tower stands before the logit scale
        **VIEWS,
    }
    recipes = {"as-code": {}, "as-paper": {"strength": 16.0}}

    def init(self, task: Task, random: Generators) -> Params:
        """The embeddings of "a photo of a", [V, M, d]."""
        tower = TextTransformer.of(task.encoder["tower"], task.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [M, d]
        context = words.expand(task.variants, -1, -1)
        scale = context.new_full((task.variants,), task.logit_scale)
        return {"context": context, "logit_scale": scale, "strength": task.settings["strength"]}

    def head(self, params: Params, task: Task) -> Params:
        """The class text that the prompts come to."""
        return prompted(params, task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy and the distance from the templates' text, [V]."""
        served = self.head(params, batch.task)
        near = (served["weight"] * batch.task.class_text("norm-mean")).sum(-1)  # [V, C]
        fit = mean_cross_entropy(self.logits(served, batch.query), batch.labels)
        return fit + params["strength"] * (1 - near).mean(-1)
