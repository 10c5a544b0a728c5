"""TIMO: text weighed by the pictures, beside a Gaussian of pictures and text."""

from torch import Tensor

from cacheclip.heads.gaussian import weigh, weighed
from cacheclip.heads.guided import ALPHAS, guided
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, Setting, from_zero
from cacheclip.task import Query, Task


class Timo(ClosedForm):
    """Logits s x T^T + alpha (x w_c + b_c) (2412.11375): T, w and b of `heads/guided.py`.

    T_c are the class's prompts, weighed by how well each fits the mean of its pictures, sharper
    with gamma; w and b are GDA's, of pictures and prompts as rows of one class, a prompt times its
    fit. Prompts are all there are, templates and sentences, cut to the count of the class with the
    fewest; of pictures all `views` are rows. The release weighs T by alpha and tries 1e-4 to 1e4 of
    it: the same ratios are tried here. It gives no constant, and gamma is 50 but for two data sets;
    here they are 1 and 50.
    """

    paper = "2412.11375"
    reads = Reads(support=("image", "image-norm"), text=("all:per-prompt",))
    table = {
        "alpha": from_zero(1.0, (ALPHAS[0], ALPHAS[-1])),
        "gamma": Setting(50.0, 0.0, 1e4, zero_shot="low"),
        **VIEWS,
    }

    def solve(self, task: Task) -> Params:
        """The two heads; each prompt is a row once."""
        return guided(task, task.settings["gamma"], 1.0) | {"alpha": task.settings["alpha"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return weighed(params, query)

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Each alpha that is tried, on the same two logits."""
        return Found(*weigh(params, query, labels, ALPHAS, folds)) if self.searched else None
