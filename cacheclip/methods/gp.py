"""GP: a Gaussian process over one encoder or two, whose mean is zero-shot."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.encoder_kernels import kernel_of, likeliest, nearness
from cacheclip.heads.ridge import Ridge, left_to_explain
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting, Settings
from cacheclip.task import Query, Task

LEARNED = "learned"
GRID = {
    "share": (0.0, 0.25, 0.5, 0.75, 1.0),
    "width": (0.25, 0.5, 1.0, 2.0, 4.0),
    "noise_ratio": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
}


class Gp(ClosedForm):
    """Logits s (x T^T + k(x, S) (k(S, S) + r I)^-1 (Y - S T^T)) (2404.00312).

    The labels Y are regressed by a Gaussian process. Its mean is zero-shot's cosines, its kernel is
    over unit features, and with encoders=2 a sum over two encoders, the second by `--aux`:

        k = (1 - share) k_1 + share k_2    k_e(u, v) = exp(-width (1 - u v) / d_e)

    where d_e is the mean of 1 - u v over the support. Share, width and r, `noise_ratio` (of noise
    to amplitude), are `learned`: of a grid the likeliest count, by the marginal likelihood of the
    support's labels at the best amplitude, so that no validation picture is needed. It is taken of
    at most 1,024 support pictures, evenly spaced.

    Of the paper its abstract is followed: the mean, a sum of kernels over pretrained models,
    regression of the label, constants by principle. Kernels, grid and what stands at one shot are
    ours. The answer is the posterior mean alone, since the variance is the same for all classes.
    """

    paper = "2404.00312"
    table = {
        "encoders": Setting(1, 1, 2, shape=True),
        "share": Setting(0.5, 0.0, 1.0, words=(LEARNED,)),
        "width": Setting(1.0, 1e-6, 1e6, words=(LEARNED,)),
        "noise_ratio": Setting(1.0, 1e-9, 1e9, words=(LEARNED,)),
    }

    @property
    def reads(self) -> Reads:
        """The text, and the pictures under each encoder."""
        layers = ("image", "aux:image")[: int(self.settings["encoders"])]
        return Reads(support=layers, query=layers, text=("norm-mean",))

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """Learned, but at one shot: there no two pictures of a class say how alike they are."""
        return dict.fromkeys(GRID, LEARNED) if shots > 1 else {}

    def solve(self, task: Task) -> Params:
        """The regression, at the likeliest constants."""
        support, text = task.support(), task.class_text("norm-mean")
        params = {
            "weight": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            **task.settings,
            **kernel_of(support),
        }
        left = left_to_explain(support["image"], text, task.labels)
        params |= likeliest(params, left, {name: GRID[name] for name in self._found})
        noise = params["noise_ratio"]
        dual = Ridge(nearness(params, support), left).dual(noise) / noise[:, None, None]
        return params | {"dual": dual}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        own = params["logit_scale"][:, None, None] * (nearness(params, query) @ params["dual"])
        return cosine_logits(query, params["weight"], params["logit_scale"]) + own

    def learned(self, params: Params) -> dict[str, float]:
        """What the evidence found."""
        return {name: float(params[name][0]) for name in self._found}

    @property
    def _found(self) -> list[str]:
        """The settings that the evidence finds: one kernel has no share."""
        words = [name for name in GRID if self.settings.get(name) == LEARNED]
        return words if self.settings["encoders"] == 2 else [n for n in words if n != "share"]
