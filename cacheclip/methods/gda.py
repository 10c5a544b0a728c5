"""GDA: Gaussian discriminant analysis of the support set beside zero-shot."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.gaussian import discriminant
from cacheclip.heads.temperature import label_log_p
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
        zero_shot, gaussian = _both(params, query)
        return zero_shot + params["alpha"][:, None, None] * gaussian

    def search(self, params: Params, query: Query, labels: Tensor) -> Found | None:
        """Each alpha that is tried, on the same two logits."""
        if not self.searched:
            return None
        zero_shot, gaussian = _both(params, query)
        hits, log_p = [], []
        for alpha in TRIED:
            logits = zero_shot + alpha * gaussian  # [V, n, C]
            hits.append((logits.argmax(-1) == labels).sum(-1))
            log_p.append(label_log_p(logits, labels))
        tried = zero_shot.new_tensor(TRIED).expand(len(zero_shot), -1)
        return Found({"alpha": tried}, torch.stack(hits, 1), torch.stack(log_p, 1))


def _both(params: Params, query: Query) -> tuple[Tensor, Tensor]:
    """Zero-shot's logits and the discriminant's, [V, n, C] each."""
    gaussian = query["image"] @ params["weight"].mT + params["bias"][:, None]
    return cosine_logits(query, params["text"], params["logit_scale"]), gaussian
