"""SS-Text: class text moved by the sum of the class's pictures, without a step."""

from torch import Tensor

from cacheclip.heads.classes import class_sums
from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import VIEWS, ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task


class SsText(ClosedForm):
    """Logits s x w_c with w_c = t_c + strength s sum_(i of c) x_i (2506.17500).

    That is where the pull |w_c - t_c|^2 / (2 strength) holds the gain s sum_i x_i w_c: one closed
    form for any number of pictures a class, and nothing is tuned. The constant 1 stands for the
    paper's lambda of 1 / N; 0 is zero-shot, and a selecting policy tries what lies between. The
    mean of a picture's `views` is its x. w is not made unit again. The paper's second form, with a
    lambda for each class, is not here.
    """

    paper = "2506.17500"
    reads = Reads(support=("image", "image-norm"), text=("norm-mean",))
    table = {
        "strength": Setting(
            1.0,
            0.0,
            1e6,
            grid=(0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.1, 1.0),
            zero_shot="low",
            elsewhere="1 / (N lambda)",
        ),
        **VIEWS,
    }
    off = {"strength": 0.0}

    def solve(self, task: Task) -> Params:
        """The text and how it moves."""
        text, x = task.class_text("norm-mean"), task.mean_of_views()
        sums = class_sums(x, task.labels, task.n_classes)  # [V, C, D]
        weight = text + (task.settings["strength"] * task.logit_scale)[:, None, None] * sums
        return {"weight": weight, "logit_scale": text.new_full((len(text),), task.logit_scale)}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])
