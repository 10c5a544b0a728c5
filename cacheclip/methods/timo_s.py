"""TIMO-S: TIMO whose sharpness and count of prompt rows are chosen too."""

from torch import Tensor

from cacheclip.heads.gaussian import weigh, weighed
from cacheclip.heads.guided import ALPHAS, guided
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, Setting, from_zero
from cacheclip.task import Query, Task

GAMMAS = tuple(5.0 * k for k in range(1, 21))
SHARES = tuple(k / 5 for k in range(1, 11))


class TimoS(ClosedForm):
    """TIMO's logits s x T^T + alpha (x w_c + b_c) (2412.11375); T, w and b of `heads/guided.py`.

    A selecting policy tries the released values: gamma from 5 to 100 in steps of 5, and ten counts
    of prompt rows up to twice as many as there are, the best fitting first; each with TIMO's
    alphas. `share` is that count over the prompts of a class. The release chooses gamma first and
    then the other two, here all are chosen together.
    """

    paper = "2412.11375"
    reads = Reads(support=("image", "image-norm"), text=("all:per-prompt",))
    table = {
        "alpha": from_zero(1.0, (ALPHAS[0], ALPHAS[-1])),
        "gamma": Setting(50.0, 0.0, 1e4, grid=GAMMAS, zero_shot="low"),
        "share": Setting(1.0, 1e-6, 100.0, grid=SHARES, shape=True),
        **VIEWS,
    }

    def solve(self, task: Task) -> Params:
        """The two heads."""
        share = float(self.settings["share"])
        return guided(task, task.settings["gamma"], share) | {"alpha": task.settings["alpha"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return weighed(params, query)

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Each alpha that is tried, on the same two logits."""
        return Found(*weigh(params, query, labels, ALPHAS, folds)) if self.searched else None
