"""ZLaP: zero-shot labels that spread over the graph of a whole test set."""

from math import ceil, log

import torch
from torch import Tensor

from cacheclip.heads.neighbours import Neighbours, nearest, nearest_others
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task

LEFT = 1e-9  # share of a label's walk that is not walked
LEAST = 1e-12  # of a picture's largest score: what a class has that no label reaches


class Zlap(ClosedForm):
    """Scores F = (I - alpha S)^-1 Y, S = D^-1/2 (W + W^T) D^-1/2 (2404.04072).

    The nodes are the test pictures and the classes' texts. W joins each picture to its nearest
    pictures by their cosine, and to its `neighbours` nearest texts by the cosine's power gamma, for
    cosines across the two kinds are smaller; below 0 they count 0. D has the sums of the rows, and
    Y marks each text with its own class. The series of alpha S is summed until nothing is left of
    it. Pictures have `neighbours` - 1 others, as released: there each counts as its own neighbour
    and is taken out afterwards. The answer of a picture depends on all others.

    Logits are ln F, so that a softmax gives the shares of F. The power is that of the plain texts'
    recipe; proxies of the texts that are learned on the pictures (InMaP) are no part of it.
    """

    paper = "2404.04072"
    learns = "nothing"
    setting = "transductive"
    reads = Reads(text=("norm-mean",))
    table = {
        "alpha": Setting(0.3, 0.001, 0.99),
        "gamma": Setting(5.0, 0.0, 100.0),
        "neighbours": Setting(5, 1, 1000, shape=True, elsewhere="k"),
    }

    def solve(self, task: Task) -> Params:
        """The text."""
        return {"text": task.class_text("norm-mean"), **task.settings}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        k, pictures = int(self.settings["neighbours"]), query["image"]
        shared = nearest_others(pictures, k - 1) if pictures.ndim == 2 else None
        answers = []
        for v, text in enumerate(params["text"]):
            x = pictures if pictures.ndim == 2 else pictures[v]
            told = nearest(x, text, k)
            told = Neighbours(told.places, told.weights ** params["gamma"][v])
            F = _spread(shared or nearest_others(x, k - 1), told, len(text), params["alpha"][v])
            most = F.amax(-1, keepdim=True).clamp_min(torch.finfo(F.dtype).tiny)
            answers.append((F / most).clamp_min(LEAST).log())
        return torch.stack(answers)


def _spread(among: Neighbours, told: Neighbours, n_classes: int, alpha: Tensor) -> Tensor:
    """F [n, C] of the pictures, from their neighbours among pictures and among texts."""
    n, C = len(told.places), n_classes
    one = told.weights.new_ones(n, 1)
    degree = among.weights.sum(1, keepdim=True) + among.pushed(one, n)
    degree = degree + told.weights.sum(1, keepdim=True)
    D, D_text = (x.where(x > 0, 1).rsqrt() for x in (degree, told.pushed(one, C)))
    own = torch.eye(C, dtype=one.dtype, device=one.device)
    F, F_text = one.new_zeros(n, C), own
    for _ in range(ceil(log(LEFT) / log(float(alpha)))):
        walked, text = D * F, D_text * F_text
        pulls = among.pulled(walked) + among.pushed(walked, n) + told.pulled(text)
        F, F_text = alpha * D * pulls, own + alpha * D_text * told.pushed(walked, C)
    return F
