"""Kernel logistic regression beside zero-shot: what `fit` does unasked."""

from collections.abc import Iterator

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.kernel_logistic import KernelLogistic as Regression, landmarks
from cacheclip.heads.points import tried
from cacheclip.heads.ridge import beside_text, rbf
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, Setting, from_zero
from cacheclip.task import Query, Task

TRIED = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class KernelLogistic(ClosedForm):
    """Logits s x T^T + k(x, S) a; a makes sum_i CE(y_i) + tr(a^T k(S, S) a) / (2 C s) least (ours).

    S are the unit support features, all `views` of them, and k(u, v) = exp(-beta (1 - u v)). It is
    ProKeR (2501.11175) with the logarithmic loss in the place of the squared one: what counts is
    what the labels are likely to be, so that pictures which zero-shot tells well move nothing.
    Of more than 1,024 rows an even choice spans the function. A hundred steps are taken: the
    largest values of C stop short of the minimum.
    C is the inverse of the penalty, as scikit-learn's, in units of 1 / s: 0 is zero-shot, and 1
    suits features of logit scale 16 and of 100 alike. A selecting policy tries C from 0 to 100.
    beta is about what ProKeR carries over from ImageNet. Why it is the default, and what lost,
    is told in docs/default.md.
    """

    paper = "own; the step's bound is Boehning's (1992)"
    reads = Reads(text=("norm-mean",))
    table = {
        "C": from_zero(1.0, (TRIED[0], TRIED[-1])),
        "beta": Setting(1.66, 0.0, 1e6),
        **VIEWS,
    }
    off = {"C": 0.0}

    def solve(self, task: Task) -> Params:
        """What the regression reads; its weights wait for C."""
        return beside_text(task) | {name: task.settings[name] for name in ("beta", "C")}

    def head(self, params: Params, task: Task) -> Params:
        """The landmarks and their weights in the place of support, labels and C."""
        own = {name: params[name] for name in ("weight", "logit_scale", "beta")}
        dual = _regression(params).dual(params["C"] * params["logit_scale"])
        return own | {"keys": landmarks(params["keys"]), "dual": dual}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        near = rbf(query["image"], params["keys"], params["beta"])
        return cosine_logits(query, params["weight"], params["logit_scale"]) + near @ params["dual"]

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """C, if it is to be searched: one decomposition serves all its values."""
        if not self.searched:
            return None
        return Found(*tried(_points(params, query), labels, folds))


def _points(params: Params, query: Query) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Each C that is tried, and its logits [V, n, C]."""
    regression, scale = _regression(params), params["logit_scale"]
    zero_shot = cosine_logits(query, params["weight"], scale)
    near = rbf(query["image"], landmarks(params["keys"]), params["beta"])
    for value in TRIED:
        C = scale.new_full(scale.shape, value)
        yield {"C": C}, zero_shot + near @ regression.dual(C * scale)


def _regression(params: Params) -> Regression:
    """Of the support's labels, beside what zero-shot says of it."""
    keys = params["keys"]
    zero_shot = cosine_logits(Query({"image": keys}), params["weight"], params["logit_scale"])
    return Regression(keys, zero_shot, params["labels"], params["beta"])
