"""LP++: a linear probe beside scaled class text, with step sizes that the support set gives."""

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.heads.linear import residual
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import SEARCH, Move, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task


class LpPp(Trained):
    """Logits x w_c + b_c + a_c (x t_c), with no other scale (2404.02285, equations 3 to 11).

    w_c starts at the sum of the class's pictures, b as torch's Linear does, all a_c at 250 times
    the mean cosine of pictures and their class's text. 300 steps on all pictures. (w, b): SGD with
    momentum 0.9 and step 4 N / (largest eigenvalue of X^T X). a: at every tenth step,
    N / (4 max_c sum_i (x_i t_c)^2). `lr` multiplies both. Pictures are the plain view.

    Recipes. as-code: a's gradient is never set to zero, so that its m-th step takes the sum of all
    10 m so far. as-paper: the gradient of that step alone. The release keeps the epoch that is best
    on K validation pictures a class, and of equal ones the last; a selecting policy keeps the one
    after which its pictures are likeliest (stop=search). Under `fixed` the last step counts, which
    the release never does: at one or two shots it may lie far below zero-shot.
    """

    paper = "2404.02285"
    reads = Reads(text=("norm-mean",))
    trainable = ("weight", "bias", "alpha")
    equivariant = False
    table = {
        "alpha_gradient": Setting("summed", words=("summed", "fresh")),
        **steps(epochs=300, batch_size=10**6, optimizer="sgd", schedule="constant"),
        "lr": Setting(1.0, 0.0, 1e6),
        "stop": replace(steps()["stop"], grid=(SEARCH,)),
    }
    recipes = {"as-code": {}, "as-paper": {"alpha_gradient": "fresh"}}

    def init(self, task: Task, random: Generators) -> Params:
        """Class sums, a small random bias, and one scale for all classes."""
        x, members, own = _by_class(task)
        V, C, D = len(x), task.n_classes, x.shape[-1]
        mean = (members @ own / members.sum(-1, keepdim=True).clamp_min(1)).mean((1, 2))  # [V]
        return {
            "text": task.class_text("norm-mean"),
            "weight": members @ x,
            "bias": random.uniform(1 / sqrt(D), (C,)),
            "alpha": (250 * mean)[:, None].expand(V, C),
        }

    def moves(self, task: Task) -> dict[str, Move]:
        """Steps within the curvature of a block of the loss."""
        x, text, N = task.support()["image"], task.class_text("norm-mean"), task.rows.shape[1]
        gram = (x @ x.mT if x.shape[-1] > N else x.mT @ x).double()
        of_probe = Move(lr=4 * N / torch.linalg.eigvalsh(gram)[:, -1].to(x))
        largest = (x @ text.mT).square().sum(1).amax(-1)  # [V]
        summed = self.settings["alpha_gradient"] == "summed"
        of_alpha = Move(lr=N / (4 * largest), momentum=1.0 if summed else 0.0, every=10)
        return {"weight": of_probe, "bias": of_probe, "alpha": of_alpha}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return _beside(params, query["image"], query["image"] @ params["text"].mT)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        return mean_cross_entropy(self.logits(params, batch.query), batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """Products with the residual."""
        x = batch.query["image"]
        cosines = x @ params["text"].mT  # [V, B, C]
        r = residual(_beside(params, x, cosines), batch.labels)
        of_alpha = cosines.mul_(r).sum(1)  # [V, C]
        return {"weight": Outer(r, x), "bias": r.sum(1), "alpha": of_alpha}


def _beside(params: Params, x: Tensor, cosines: Tensor) -> Tensor:
    """The probe's logits of x [V, n, D], and the scaled cosines [V, n, C] of x to the text."""
    probe = x @ params["weight"].mT + params["bias"][:, None]
    return probe + params["alpha"][:, None] * cosines


def _by_class(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [V, N, D], one-hot labels [V, C, N], cosines to the own class's text [V, N, 1]."""
    x, text = task.support()["image"], task.class_text("norm-mean")
    members = functional.one_hot(task.labels, task.n_classes).to(x).mT
    own = (x * text.gather(1, task.labels.unsqueeze(-1).expand(x.shape))).sum(-1, keepdim=True)
    return x, members, own
