"""InCPL on cached features: each picture moves itself and the words, beside labelled examples."""

from functools import partial

from torch import Tensor
from torch.nn.functional import cross_entropy

from cacheclip.heads.prompts import class_features
from cacheclip.heads.test_time import Own, entropy
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task, unit


class InCplLike(ClosedForm):
    """Logits s (x + d) W^T, d and the words of W moved for this picture alone (2403.06126).

    Of a picture x and the context, labelled examples e with classes y, the loss is

        H(softmax(s (x + d) W^T)) + supervised * mean over the context of -ln p(y | e + d)

    with all sums normalised and W the unit text of "[v_1] ... [v_M] name.". Both start anew for
    each picture, d at 0 and the words as "a photo of a", and move in cycles: a step of d, then one
    of the words, by AdamW with decay 0.01. With `rounds=0` it is zero-shot by that prompt.

    It is like InCPL and not it: the paper's visual prompts are tokens that a net makes of the class
    text for the image tower, and no cached feature knows of them; d stands for what they do to a
    feature, the same for the picture and the context (`predict --context` runs a tower with them).
    The paper draws a few labelled examples anew for each test picture, and its public reviews found
    that they never were of the picture's own class, which gives its label away. Here the context is
    the support set, drawn once before any picture is seen, no class left out. One step is the
    paper's; its rate, its weights and the form of its net could not be verified: these are TPT's
    rate for both and 1.
    """

    paper = "2403.06126"
    unverified = "rates, weights, and the form of the visual prompt"
    transfers = True
    reads_new_shots = True
    reads = Reads(text=("tokens",), encoder=("tower",), query_encoder=("tower",))
    table = {
        "rounds": Setting(1, 0, 100, shape=True),
        "lr": Setting(5e-3, 0.0),  # in the size of words: the tower stands before the logit scale
        "lr_offset": Setting(5e-3, 0.0, power=-1.0),
        "supervised": Setting(1.0, 0.0, grid=(1.0, 10.0), elsewhere="lambda"),
    }

    def solve(self, task: Task) -> Params:
        """Where every picture starts: nothing is learned before one is asked about."""
        tower = TextTransformer.of(task.encoder["tower"], task.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [M, d]
        return {
            "words": words.expand(task.variants, -1, -1),
            "logit_scale": words.new_full((task.variants,), task.logit_scale),
            **task.settings,
        }

    def head(self, params: Params, task: Task) -> Params:
        """That, with the names of any classes and their own support as context."""
        return params | {
            "tokens": task.text["tokens"].expand(task.variants, -1, -1),
            "examples": task.support()["image"],  # [V, N, D]
            "labels": task.labels,
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]; each of the P = V n pictures has an offset and words of its own."""
        tower = TextTransformer.of(query.encoder["tower"], params["words"].dtype)
        V, n = len(params["words"]), len(query)
        x = query["image"].expand(V, n, -1).reshape(V * n, 1, -1)  # [P, 1, D]
        each = {name: own.repeat_interleave(n, 0) for name, own in params.items()}

        def text_by(words: Tensor) -> Tensor:
            return unit(class_features(tower, params["tokens"][0], words))  # [P, C, D]

        def scores(pictures: Tensor, offset: Tensor, text: Tensor) -> Tensor:
            return each["logit_scale"][:, None, None] * (unit(pictures + offset) @ text.mT)

        def loss(offset: Tensor, text: Tensor) -> Tensor:
            told = scores(each["examples"], offset, text).mT  # [P, C, N]
            missed = cross_entropy(told, each["labels"], reduction="none").mean(1)
            return entropy(scores(x, offset, text)) + each["supervised"] * missed

        offset, words = Own(x.new_zeros(x.shape), each["lr_offset"]), Own(each["words"], each["lr"])
        text = text_by(params["words"]).repeat_interleave(n, 0)  # the same for all before a step
        for _ in range(int(self.settings["rounds"])):
            offset.step(partial(loss, text=text))
            words.step(lambda own: loss(offset.value, text_by(own)))
            text = text_by(words.value)
        return scores(x, offset.value, text).view(V, n, -1)
