"""TransCLIP-ZS: zero-shot answers of a whole test set, drawn together by its own clusters."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.neighbours import nearest_others
from cacheclip.heads.transclip import clustered
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task, unit

SURE = 8  # pictures of a class that its first mean is of


class TransclipZs(ClosedForm):
    """Gaussian clusters of the test pictures under a penalty KL(z_i | p_i) (2406.01837).

    z_i = softmax(text_weight ln p_i + l_i / 50 + (W^T z + W z)_i / (2 neighbours)) five times, l_ic
    = -sum_d (x_id - m_cd)^2 / (2 v_d); then means m_c and a shared variance v from z: ten turns. p
    is zero-shot's softmax, W has the cosines of each picture's nearest `neighbours`. The first mean
    of a class is that of the 8 pictures that p gives it most, weighted by p. The answer of a
    picture depends on all others: on a part of the test set, or on pictures of few of its classes,
    it is another one.

    Text is the unit mean of unit prompts; the release takes the first prompt alone where there are
    several. It counts the classes that occur in the test labels; here all classes count. A picture
    is never its own neighbour, where the release leaves out the nearest, itself or a copy of it.
    """

    paper = "2406.01837"
    learns = "nothing"
    setting = "transductive"
    reads = Reads(text=("norm-mean",))
    table = {
        "text_weight": Setting(1.0, 0.0, 1e6, zero_shot="high", elsewhere="lambda; lambda_value"),
        "neighbours": Setting(3, 0, 1000, shape=True, elsewhere="; n_neighbors"),
    }

    def solve(self, task: Task) -> Params:
        """The text, and what it counts."""
        text = task.class_text("norm-mean")
        scale = text.new_full((len(text),), task.logit_scale)
        return {"text": text, "logit_scale": scale, "text_weight": task.settings["text_weight"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]: ln z, up to what is the same for all classes."""
        log_p = cosine_logits(query, params["text"], params["logit_scale"]).log_softmax(-1)
        V, n = log_p.shape[:2]
        k, pictures = int(self.settings["neighbours"]), query["image"]
        shared = nearest_others(pictures, k) if pictures.ndim == 2 else None
        answers = []
        for x, own, weight in zip(
            pictures.expand(V, n, -1), log_p, params["text_weight"], strict=True
        ):
            sure = own.exp().topk(min(SURE, n), 0)  # [8, C]
            means = unit(torch.einsum("kc,kcd->cd", sure.values, x[sure.indices]))
            graph = shared or nearest_others(x, k)
            near, none = 1 / max(1, 2 * k), x.new_zeros(())
            answers.append(clustered(x, own, means, graph, near, weight, x[:0], own[:0], none))
        return torch.stack(answers)
