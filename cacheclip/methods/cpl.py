"""CPL: CoCoOp whose text is drawn to pictures, and away from their counterfactuals."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cacheclip.heads import conditional_prompts, counterfactual
from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import VIEWS, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task

NORM = 0.07  # what a mask's norm costs beside the contrast


class Cpl(Trained):
    """CoCoOp, loss + strength (mean_c -ln sigmoid(w_c x - w_c x') + 0.07 |u|) (2210.10362).

    x' = unit((1 - u) x + u x-) is a counterfactual: x- a picture of the class whose text is nearest
    to that of x's class, u = clamp(0.999 u* + 0.001 m) with m a learned mask a class that starts at
    1, and u* 1 at the fewest numbers, found greedily, that x has to take from x- for its text to be
    nearer to the other class, else -1. w_c is the unit text that CoCoOp comes to for x; with
    strength 0 this is CoCoOp. The recipe is CoCoOp's. What is not the paper's: similar classes are
    told by the cosine of the templates' text, where it has BERTScore of the names; x- is drawn once
    a picture and run; u* is found for each picture, on unit features, where the release has one a
    class, on raw ones. The release does not run, so its numbers are checked against none here.

    Recipes. as-code: the mean over all classes. as-paper: the picture's own class alone; whether a
    temperature divides the cosines there is not verified.
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
        share = random.uniform(0.5, task.labels.shape[1:]) + 0.5
        counterfactuals = counterfactual.found(task, text, share)
        mask = text.new_ones(task.variants, *text.shape)
        return params | counterfactuals | {"mask": mask, "strength": task.settings["strength"]}

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
        changed, mask = counterfactual.changed(params, batch)
        near, far = [], []
        for k in range(x.shape[1]):
            picture = x[:, k : k + 1]
            text = conditional_prompts.class_weight(tower, served, picture).mT  # [V, D, C]
            near.append(picture @ text)
            far.append(changed[:, k : k + 1] @ text)
        cosines = torch.cat(near, 1)  # [V, B, C]
        lead = cosines - torch.cat(far, 1)
        if self.settings["contrast"] == "own":
            lead = lead.gather(-1, batch.labels[..., None])
        cost: Tensor = (NORM * mask.norm(dim=-1) - logsigmoid(lead).mean(-1)).mean(1)  # [V]
        fit = mean_cross_entropy(cosines * params["logit_scale"][:, None, None], batch.labels)
        return fit + params["strength"] * cost
