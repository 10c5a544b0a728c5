"""ProKeR: kernel ridge regression of what zero-shot leaves of the support labels."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.points import tried
from cacheclip.heads.ridge import Ridge, beside_text, left_to_explain, rbf
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, Settings, from_zero
from cacheclip.task import Query, Task

BETAS = (0.5, 1.0, 1.5, 1.66, 1.7, 2.6, 3.0, 5.0)
OF_IMAGENET = (1, 3.0, 0.05), (2, 2.6, 0.05), (4, 1.5, 0.05), (8, 1.66, 0.07), (16, 1.7, 0.1)
LAMS = (0.0, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.25, 0.4, 0.7, 1.0, 3.0)


class Proker(ClosedForm):
    """Logits s (x T^T + k(x, S) a), a = (k(S, S) / lam + I)^-1 (Y - S T^T) (2501.11175).

    S are the unit support features, all `views` of them, Y their one-hot labels and k(u, v) =
    exp(-beta (1 - u v)). As released the regression counts lam-fold, so that lam is ridge and
    weight at once and lam = 0 is zero-shot. The release has no s, which moves no answer, and ten
    views, where one is the default here. The constants are those that it carries over from
    ImageNet, by shots. A selecting policy tries the span of the released grids, in fewer steps of
    beta and wider ones of lam.
    """

    paper = "2501.11175"
    reads = Reads(text=("norm-mean",))
    table = {
        "beta": from_zero(1.7, (BETAS[0], BETAS[-1]), "beta"),
        "lam": from_zero(0.1, (LAMS[0], LAMS[-1]), "lambda"),
        **VIEWS,
    }
    transferred = {k: {"beta": beta, "lam": lam} for k, beta, lam in OF_IMAGENET}
    off = {"lam": 0.0}

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """The constants of the most shots that are no more than these."""
        return dict(cls.transferred[max(k for k in cls.transferred if k <= max(1, shots))])

    def solve(self, task: Task) -> Params:
        """The regression's rows; its weights wait for beta and lam."""
        return beside_text(task) | {name: task.settings[name] for name in ("beta", "lam")}

    def head(self, params: Params, task: Task) -> Params:
        """The weights in the place of labels and lam."""
        dual = _ridge(params, params["beta"]).dual(params["lam"])
        return {n: params[n] for n in ("weight", "logit_scale", "keys", "beta")} | {"dual": dual}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        near = rbf(query["image"], params["keys"], params["beta"])
        votes = params["logit_scale"][:, None, None] * (near @ params["dual"])
        return cosine_logits(query, params["weight"], params["logit_scale"]) + votes

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Whichever of beta and lam is to be searched: one decomposition a beta."""
        if not self.searched:
            return None
        zero_shot = cosine_logits(query, params["weight"], params["logit_scale"])
        return Found(*tried(self._points(params, query, zero_shot), labels, folds))

    def _points(
        self, params: Params, query: Query, zero_shot: Tensor
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """What is searched of each point that is tried, and its logits [V, n, C]."""
        for beta in self._values("beta", BETAS, params):
            ridge, near = _ridge(params, beta), rbf(query["image"], params["keys"], beta)
            near *= params["logit_scale"][:, None, None]
            for lam in self._values("lam", LAMS, params):
                point = {"beta": beta, "lam": lam}
                yield {n: point[n] for n in self.searched}, zero_shot + near @ ridge.dual(lam)

    def _values(self, name: str, values: tuple[float, ...], params: Params) -> list[Tensor]:
        """What is tried of a setting, [V] each: in float64, so that a constant is known by it."""
        own = params[name]
        if name not in self.searched:
            return [own]
        return [own.new_full(own.shape, value, dtype=torch.float64) for value in values]


def _ridge(params: Params, beta: Tensor) -> Ridge:
    """The regression of what zero-shot leaves of the labels."""
    keys = params["keys"]
    targets = left_to_explain(keys, params["weight"], params["labels"])
    return Ridge(rbf(keys, keys, beta), targets)
