"""CoCoOp: CoOp whose words are moved by the picture that is asked about."""

from math import sqrt

import torch
from torch import Tensor

from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.heads.prompts import class_features
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit

REDUCTION, LEAST = 16, 8  # hidden units between picture and words


class CoCoop(Trained):
    """Logits s x w_c, w_c the unit text of [v_1 + h(x)] ... [v_M + h(x)] name. (2203.05557, eq. 3).

    h is Linear(D to D/16), ReLU, Linear(D/16 to d), both with biases, of the picture's unit
    feature x; its shift is the same for all M words, which start as "a photo of a". So the text
    tower runs over all classes for each picture, in answers as in steps. The recipe is the released
    one: SGD with momentum 0.9, lr 2e-3, decay 5e-4 of every weight, one picture a step, 10 epochs,
    a rate an epoch, the last step. Here it is float32, and h has 8 hidden units at least: features
    of fewer than 128 numbers would leave it so few that all of them may start dead. `views` count
    as for CoOp.
    """

    paper = "2203.05557"
    reads = Reads(text=("tokens",), encoder=("tower",), query_encoder=("tower",))
    size = "M * d + H * (D + 1) + d * (H + 1)"
    trainable = ("context", "down", "down_bias", "up", "up_bias")
    transfers = True
    drop_last = True
    fused = False
    table = {
        **steps(epochs=10, batch_size=1, optimizer="sgd", weight_decay=5e-4, schedule="dassl"),
        "lr": Setting(2e-3, 0.0),  # in the size of words: the tower stands before the logit scale
        **VIEWS,
    }

    def init(self, task: Task, random: Generators) -> Params:
        """The words of "a photo of a", and h as torch's Linear starts it."""
        tower = TextTransformer.of(task.encoder["tower"], task.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [M, d]
        D, d = task.pool["image"].shape[-1], words.shape[-1]
        H = max(LEAST, D // REDUCTION)
        return {
            "context": words.expand(task.variants, -1, -1),
            "down": random.uniform(1 / sqrt(D), (H, D)),  # [V, H, D]
            "down_bias": random.uniform(1 / sqrt(D), (H,)),
            "up": random.uniform(1 / sqrt(H), (d, H)),  # [V, d, H]
            "up_bias": random.uniform(1 / sqrt(H), (d,)),
            "logit_scale": words.new_full((task.variants,), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """What was learned, beside the names of any classes."""
        return params | {"tokens": task.text["tokens"].expand(task.variants, -1, -1)}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C], one pass of the tower a picture, so that memory does not grow with them."""
        tower = TextTransformer.of(query.encoder["tower"], params["context"].dtype)
        pictures = (query.part(k, k + 1)["image"] for k in range(len(query)))
        return torch.cat([_answer(tower, params, x) for x in pictures], 1)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)


def _answer(tower: TextTransformer, params: Params, x: Tensor) -> Tensor:
    """Logits [V, 1, C] of one picture [1, D] or [V, 1, D]."""
    hidden = (x @ params["down"].mT + params["down_bias"][:, None]).relu()  # [V, 1, H]
    shift = hidden @ params["up"].mT + params["up_bias"][:, None]  # [V, 1, d]
    weight = unit(class_features(tower, params["tokens"][0], params["context"] + shift))
    return params["logit_scale"][:, None, None] * (x @ weight.mT)
