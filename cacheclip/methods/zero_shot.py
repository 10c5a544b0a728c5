"""CLIP's zero-shot classifier: the mean of the prompts' unit text features is the class weight."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import ClosedForm, Params, Reads
from cacheclip.task import Query, Task


class ZeroShot(ClosedForm):
    """Logits s x T^T with the `norm-mean` text ensemble; reads no support picture."""

    paper = "2103.00020"
    reads = Reads(text=("norm-mean",))
    learns = "nothing"

    def solve(self, task: Task) -> Params:
        """The class text, the same for every variant."""
        text = task.class_text("norm-mean")
        return {"weight": text, "logit_scale": text.new_full((len(text),), task.logit_scale)}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])
