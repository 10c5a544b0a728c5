"""After VTP-OVD: learned words before the class name, and a picture that looks at the classes."""

from math import sqrt

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.prompts import prompted
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Settings, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit


class VtpOvdLike(Trained):
    """Logits s x'.w_c, x' = norm(x + softmax(q K^T / sqrt(A)) V U) (after 2211.00849; no code).

    w_c is the unit text of [v_1] ... [v_M] name., as in CoOp; the words start as "a photo of a".
    The visual prompt tells the vision branch which classes are to be told apart: the feature x asks
    (q = x Q) and the class texts w answer (K = w P, V = w R), Q, P, R [D, A] and U [A, D] with
    A = D / reduction. U starts as zeros, so that no step is zero-shot by that prompt.

    So the same picture is another one where other classes are asked about.

    The paper trains both on pixels of a detector's dense features, within base boxes; here a
    pixel's place is taken by one feature a picture or a box, as it is cached. The structure of its
    module is not verified: no code was released, and one head of attention is a guess, hence the
    name. The recipe is CoOp's, as no other is known.
    """

    paper = "2211.00849"
    unverified = "form of the visual prompt and recipe"
    reads = Reads(text=("tokens",), encoder=("tower",))
    size = "M * d + 4 * D * (D // reduction)"
    trainable = ("context", "ask", "key", "value", "out")
    transfers = True
    drop_last = True
    fused = False
    table = {
        "reduction": Setting(4, 1, 1024, shape=True),
        **steps(epochs=200, batch_size=32, optimizer="sgd", weight_decay=5e-4, schedule="dassl"),
        "lr": Setting(2e-3, 0.0),  # in the size of words: the tower stands before the logit scale
        **VIEWS,
    }

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """50 epochs at one shot, 100 at two to four, 200 above."""
        return {"epochs": 50 if shots < 2 else 100 if shots < 8 else 200}

    def init(self, task: Task, random: Generators) -> Params:
        """The words of "a photo of a", and a module that says nothing yet."""
        tower = TextTransformer.of(task.encoder["tower"], task.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [M, d]
        V, D = task.variants, task.pool["image"].shape[-1]
        A = max(1, D // int(self.settings["reduction"]))
        maps = {name: random.uniform(1 / sqrt(D), (D, A)) for name in ("ask", "key", "value")}
        return {
            "context": words.expand(V, -1, -1),
            **maps,  # [V, D, A]
            "out": words.new_zeros(V, A, D),
            "logit_scale": words.new_full((V,), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """The module beside the class text that the prompts come to."""
        module = {name: params[name] for name in ("ask", "key", "value", "out")}
        return module | prompted(params, task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        told = unit(query["image"] + _prompt(params, query["image"]))
        return cosine_logits(Query({"image": told}), params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)


def _prompt(params: Params, x: Tensor) -> Tensor:
    """What the classes add to pictures [n, D] or [V, n, D]: [V, n, D]."""
    ask, key = x @ params["ask"], params["weight"] @ params["key"]  # [V, n, A], [V, C, A]
    looks = torch.softmax(ask @ key.mT / sqrt(key.shape[-1]), -1)  # [V, n, C]
    return looks @ (params["weight"] @ params["value"]) @ params["out"]
