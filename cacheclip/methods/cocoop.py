"""CoCoOp: CoOp whose words are moved by the picture that is asked about."""

from torch import Tensor

from cacheclip.heads import conditional_prompts
from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task


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
    trainable = conditional_prompts.LEARNED
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
        return conditional_prompts.start(task, random)

    def head(self, params: Params, task: Task) -> Params:
        """What was learned, beside the names of any classes."""
        return conditional_prompts.served(params, task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return conditional_prompts.logits(params, query)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)
