"""CPL: CoCoOp whose text is drawn to pictures, and away from their counterfactuals."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cacheclip.heads import conditional_prompts
from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.heads.counterfactual import distractors, minimal_edits, partners
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit

LEARNT_SHARE, NORM = 0.001, 0.07  # of the mask what steps move; what its norm costs


class Cpl(Trained):
    """CoCoOp, loss + strength (mean_c -ln sigmoid(w_c x - w_c x') + 0.07 |u|). (2210.10362).

    x' = unit((1 - u) x + u x-) is a counterfactual: x- a picture of the class whose text is nearest
    to that of x's class, u = clamp(0.999 u* + 0.001 m) with m a learned mask a class that starts at
    1, and u* 1 at the fewest numbers, found greedily, that x has to take from x- for its text to be
    nearer to the other class, else -1. w_c is the unit text that CoCoOp comes to for x; with
    strength 0 this is CoCoOp. The recipe is CoCoOp's. What is not the paper's: similar classes are
    told by the cosine of the templates' text, where it has BERTScore of the names; x- is drawn once
    a picture and run; u* is found for each picture, on unit features, where the release has one a
    class, on raw ones. The release does not run, so its numbers are checked against none here.

    Recipes. as-code: the mean over all classes. as-paper: the picture's own class alone.
    """

    paper = "2210.10362"
    reads = Reads(text=("tokens", "norm-mean"), encoder=("tower",), query_encoder=("tower",))
    size = "M * d + H * (D + 1) + d * (H + 1) + C * D"
    trainable = (*conditional_prompts.LEARNED, "mask")
    transfers = True
    drop_last = True
    fused = False
    table = {
        "strength": Setting(1.0, 0.0, 1e6, power=1.0, elsewhere="lambda"),
        "contrast": Setting("all", words=("all", "own")),
        **steps(epochs=10, batch_size=1, optimizer="sgd", weight_decay=5e-4, schedule="dassl"),
        "lr": Setting(2e-3, 0.0),  # in the size of words: the tower stands before the logit scale
        **VIEWS,
    }
    recipes = {"as-code": {}, "as-paper": {"contrast": "own"}}

    def init(self, task: Task, random: Generators) -> Params:
        """CoCoOp's start, and of each picture and view what a counterfactual is made of."""
        params = conditional_prompts.start(task, random)
        text = task.text["norm-mean"]
        rivals = distractors(text, task.labels).gather(1, task.labels)  # [V, N]
        share = random.uniform(0.5, task.labels.shape[1:]) + 0.5
        at = partners(task.labels, rivals, share)
        views = [task.support(view)["image"] for view in range(task.views)]  # [V, N, D] each
        others = [x.gather(1, at[..., None].expand_as(x)) for x in views]
        own, rival = text[task.labels].flatten(0, 1), text[rivals].flatten(0, 1)
        edits = [
            minimal_edits(x.flatten(0, 1), other.flatten(0, 1), own, rival).view_as(x)
            for x, other in zip(views, others, strict=True)
        ]
        C, D = text.shape
        return params | {
            "mask": text.new_ones(task.variants, C, D),
            "edits": torch.stack(edits, 2),  # [V, N, W, D]
            "others": torch.stack(others, 2),
            "strength": task.settings["strength"],
        }

    def head(self, params: Params, task: Task) -> Params:
        """What was learned, beside the names of any classes."""
        return conditional_prompts.served(params, task)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return conditional_prompts.logits(params, query)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy, and what counterfactuals and their masks cost, [V]."""
        task, x = batch.task, batch.query["image"]  # [V, B, D]
        served = self.head(params, task)
        tower = TextTransformer.of(task.encoder["tower"], x.dtype)
        pictures = x.split(1, 1)
        weight = [conditional_prompts.class_weight(tower, served, one) for one in pictures]
        changed, mask = _counterfactual(params, batch)
        near = torch.cat([one @ w.mT for one, w in zip(pictures, weight, strict=True)], 1)
        far = torch.cat([c @ w.mT for c, w in zip(changed.split(1, 1), weight, strict=True)], 1)
        lead = near - far  # [V, B, C]
        if self.settings["contrast"] == "own":
            lead = lead.gather(-1, batch.labels[..., None])
        cost = -logsigmoid(lead).mean(-1) + NORM * mask.norm(dim=-1)  # [V, B]
        fit = mean_cross_entropy(near * params["logit_scale"][:, None, None], batch.labels)
        return fit + params["strength"] * cost.mean(1)


def _counterfactual(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
    """The features x' [V, B, D] of a batch, and how much of them is another's."""
    pictures, view = batch.rows // batch.task.views, batch.rows % batch.task.views  # [V, B]
    position = (batch.task.rows[:, None] == pictures[..., None]).int().argmax(-1)
    variant = torch.arange(len(position), device=position.device)[:, None]
    edits, other = (params[name][variant, position, view] for name in ("edits", "others"))
    found, learnt = 2 * edits.to(other.dtype) - 1, params["mask"][variant, batch.labels]
    mask = ((1 - LEARNT_SHARE) * found + LEARNT_SHARE * learnt).clamp(0, 1)
    x = batch.query["image"]
    return unit((1 - mask) * x + mask * other), mask
