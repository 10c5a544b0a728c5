"""CuPL: zero-shot by sentences that describe the classes, in the place of templates."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import ClosedForm, Params, Reads
from cacheclip.task import Query, Task


class Cupl(ClosedForm):
    """Logits s x T^T, T_c the unit mean of the class's unit sentences (2209.03320, section 3).

    The paper has a language model write the sentences; here they are those of the feature set,
    whoever wrote them, and each of a class weighs the same. Reads no support picture.
    """

    paper = "2209.03320"
    learns = "nothing"
    reads = Reads(text=("cupl:norm-mean",))

    def solve(self, task: Task) -> Params:
        """The sentences' heads."""
        text = task.class_text("cupl:norm-mean")
        return {"weight": text, "logit_scale": text.new_full((len(text),), task.logit_scale)}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])
