"""GDA: Gaussian discriminant analysis of the support set beside zero-shot."""

from torch import Tensor

from cacheclip.heads.gaussian import discriminant, weigh, weighed
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, from_zero
from cacheclip.task import Query, Task

TRIED = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)


class Gda(ClosedForm):
    """Logits s x T^T + alpha (x w_c + b_c) (2402.04087, equation 8); w, b of `heads/gaussian.py`.

    Classes are Gaussians of one covariance, shrunk as Kubokawa and Srivastava do, with equal
    priors. All `views` of the support pictures count as rows, unit each; text is the unit mean of
    unit prompts. A selecting policy tries the released decades of alpha, from 1e-4 to 100, and 0,
    zero-shot. The authors give no constant, for they always choose: here it is 1. With one picture
    a class and one view of it there is no covariance, w is 0 and the answer is zero-shot's: so it
    is at one shot without `views`. The release pools ten crops; the more views, the less the
    covariance is shrunk, and at alpha 1 the answer may fall below zero-shot.
    """

    paper = "2402.04087"
    reads = Reads(text=("norm-mean",))
    table = {"alpha": from_zero(1.0, (TRIED[0], TRIED[-1])), **VIEWS}
    off = {"alpha": 0.0}

    def solve(self, task: Task) -> Params:
        """The two heads."""
        text, views = task.class_text("norm-mean"), task.flat()
        weight, bias = discriminant(views.support()["image"], views.labels, task.n_classes)
        return {
            "text": text,
            "weight": weight,
            "bias": bias,
            "alpha": task.settings["alpha"],
            "logit_scale": text.new_full((len(text),), task.logit_scale),
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return weighed(params, query)

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Each alpha that is tried, on the same two logits."""
        return Found(*weigh(params, query, labels, TRIED, folds)) if self.searched else None
