"""CoOp: the words before the class name are learned, through the frozen text transformer."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.prompts import prompted
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Settings, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task


class Coop(Trained):
    """Class text of the prompt [v_1] ... [v_M] name. with M free vectors (2109.01134, equation 3).

    The vectors are shared by all classes and stand before the name (the paper's unified context,
    name at the end). They start as 16 draws from N(0, 0.02^2), or with context=words as the
    embeddings of "a photo of a". The recipe is the released one: SGD with momentum 0.9, lr 2e-3,
    decay 5e-4, batches of 32, 50 epochs at one shot, 100 at two and four, 200 above, a rate an
    epoch, the last step. The release computes in fp16 and takes 50 epochs for ImageNet at any
    shots; here it is float32, and epochs go by shots alone. Each of its epochs crops the pictures
    anew; here it takes the next of their `views`, by default the picture itself. Vectors of each
    class's own (its CSC) are not here: they could not serve classes that were not learned from.
    """

    paper = "2109.01134"
    reads = Reads(text=("tokens",), encoder=("tower",))
    size = "context * d"
    trainable = ("context",)
    transfers = True
    drop_last = True
    fused = False
    table = {
        "context": Setting(16, 1, 64, words=("words",), shape=True, elsewhere="M; N_CTX, CTX_INIT"),
        **steps(epochs=200, batch_size=32, optimizer="sgd", weight_decay=5e-4, schedule="dassl"),
        "lr": Setting(2e-3, 0.0),  # in the size of words: the tower stands before the logit scale
        **VIEWS,
    }

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """50 epochs at one shot, 100 at two to four, 200 above."""
        return {"epochs": 50 if shots < 2 else 100 if shots < 8 else 200}

    def init(self, task: Task, random: Generators) -> Params:
        """The vectors in the place of words, [V, M, d]."""
        tower = TextTransformer.of(task.encoder["tower"], task.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [m, d], those of "a photo of a"
        if self.settings["context"] == "words":
            context = words.expand(task.variants, -1, -1)
        else:
            context = random.normal(0.02, (int(self.settings["context"]), words.shape[-1]))
        scale = context.new_full((task.variants,), task.logit_scale)
        return {"context": context, "logit_scale": scale}

    def head(self, params: Params, task: Task) -> Params:
        """The class text that the prompts come to."""
        return prompted(params, task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)
