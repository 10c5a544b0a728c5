"""TransCLIP-FS: clusters of a whole test set that its support set holds in place."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.neighbours import Neighbours, nearest, nearest_others
from cacheclip.heads.transclip import clustered
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task, unit

PAIRINGS = "pictures-first", "support-first"


class TransclipFs(ClosedForm):
    """TransCLIP-ZS with labelled pictures among the clusters (2406.01837).

    z_i = softmax(text_weight ln p_i + l_i / 50 + (W^T z + W z)_i / (2 neighbours)) and m_c =
    unit(mean_i z_ic x_i + 50 gamma mean_s y_sc k_s) in turns. k_s are the support pictures, y their
    labels; they count so in the variance too, and draw their nearest test pictures to their class
    by W^T. The first m_c is the unit sum of a class's k_s. A selecting policy tries the released
    gammas; the authors give no constant, for they always choose: here it is 0.02.

    Recipes. as-paper: the rows of W are those of z, the test pictures before the support, and the
    nearest counts. as-code: W has the rows of the support first and z has them last, so that the
    neighbours of another row count, and the answer depends on the order of the test set; of a
    support picture the nearest test picture is left out too, as if it were itself. The paper's runs
    unasked, for the other is a slip and answers worse.

    A choice answers for validation and test pictures together and counts the former; the release
    gives each validation picture the answer of the nearest test picture, and starts each gamma
    where the one before it came to. Departures of TransCLIP-ZS hold here too.
    """

    paper = "2406.01837"
    setting = "transductive"
    reads = Reads(text=("norm-mean",))
    table = {
        "gamma": Setting(
            0.02, 0.0, 1e6, grid=(0.002, 0.01, 0.02, 0.2), elsewhere="gamma; gamma_list"
        ),
        "text_weight": Setting(0.5, 0.0, 1e6, zero_shot="high", elsewhere="lambda; lambda_value"),
        "neighbours": Setting(3, 0, 1000, shape=True, elsewhere="; n_neighbors"),
        "pairing": Setting("pictures-first", words=PAIRINGS),
    }
    recipes = {"as-paper": {}, "as-code": {"pairing": "support-first"}}

    def solve(self, task: Task) -> Params:
        """The text and the support set."""
        text = task.class_text("norm-mean")
        return {
            "text": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            "keys": task.support()["image"],
            "labels": task.labels,
            **task.settings,
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]: ln z, up to what is the same for all classes."""
        log_p = cosine_logits(query, params["text"], params["logit_scale"]).log_softmax(-1)
        V, n, C = log_p.shape
        k, pictures = int(self.settings["neighbours"]), query["image"]
        shared = nearest_others(pictures, k) if pictures.ndim == 2 else None
        labels = one_hot(params["labels"], C).to(pictures)  # [V, m, C]
        answers = []
        for v, x in enumerate(pictures.expand(V, n, -1)):
            keys = params["keys"][v]
            graph = self._graph(x, keys, shared or nearest_others(x, k))
            answers.append(
                clustered(
                    x,
                    log_p[v],
                    unit(labels[v].T @ keys),
                    graph,
                    1 / max(1, 2 * k),
                    params["text_weight"][v],
                    keys,
                    labels[v],
                    params["gamma"][v],
                )
            )
        return torch.stack(answers)

    def _graph(self, x: Tensor, keys: Tensor, among: Neighbours) -> Neighbours:
        """W of both kinds of rows, each with as many neighbours as the pictures have."""
        k = among.places.shape[1]
        if self.settings["pairing"] == "pictures-first":
            return nearest(keys, x, k).below(among)
        return among.below(nearest(keys, x, k, after=1))
