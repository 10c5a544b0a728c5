"""Cross-modal adaptation: prompts are training samples beside the pictures."""

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.linear import residual
from cacheclip.heads.points import tried
from cacheclip.kernels import residual_mlp
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import SEARCH, Found, Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit

RATIO, REDUCTION = 0.2, 4  # of the adapter, as CLIP-Adapter has them
TRIED = tuple(k / 10 for k in range(10, -1, -1))  # wise, from zero-shot outwards
STEPS = 100  # an epoch: after as many the release looks at its held-out pictures


class CrossModal(Trained):
    """Logits s z w_c, W from the unit class text, learned from pictures and prompts (2301.06267).

    A sample is a picture or a prompt of a class, both unit rows of one space; each step sees half a
    batch of either, each kind in an order of its own. With head=linear z is the sample itself, with
    head=adapter it is what a CLIP-Adapter of ratio 0.2 makes of it, trained beside W. No row of W
    is normalised again. `wise` blends zero-shot into the answers of what was learned: (1 - wise)
    logits + wise zero-shot, which for the linear head is WiSE-FT, W' = (1 - wise) W + wise T, 0.5
    in the paper. A selecting policy searches it.

    12,800 steps of AdamW with a line up over 50 steps and a cosine, a hundred of them an epoch, so
    that stop=search looks where the release does. The release names no constants: a few held-out
    pictures choose among twelve triples of lr, decay and batch. Here the constants are of that
    sweep, the lr that both heads have in it. Its mirrored pictures are left to a task with views.
    """

    paper = "2301.06267"
    reads = Reads(text=("per-prompt",))
    equivariant = False  # prompts are drawn by the number of their class
    table = {
        "head": Setting("linear", words=("linear", "adapter")),
        "wise": Setting(
            0.0, 0.0, 1.0, (SEARCH,), words=(SEARCH,), zero_shot="high", search=(0.0, 1.0)
        ),
        **steps(lr=1e-4, epochs=128, batch_size=8, weight_decay=1e-2, schedule="warm-cosine"),
    }
    off = {"wise": 1.0}

    @property
    def _adapts(self) -> bool:
        return self.settings["head"] == "adapter"

    @property
    def trainable(self) -> tuple[str, ...]:
        """The class rows, and the two layers of the adapter where there is one."""
        return ("weight", "down", "up") if self._adapts else ("weight",)

    def data(self, task: Task) -> Task:
        """The prompts as pictures after the others, each as often as there are views."""
        prompts, classes = _prompts(task)
        first = len(task.pool["image"]) // task.views
        rows = torch.arange(first, first + len(classes), device=task.device)
        text = prompts.repeat_interleave(task.views, 0).to(task.pool["image"])
        return replace(
            task,
            pool={"image": torch.cat([task.pool["image"], text])},
            rows=torch.cat([task.rows, rows.expand(task.variants, -1)], 1),
            labels=torch.cat([task.labels, classes.expand(task.variants, -1)], 1),
        )

    def per_epoch(self, task: Task) -> int:
        """A hundred steps, however many pictures there are."""
        return STEPS

    def order(self, task: Task, random: Generators) -> Iterator[Tensor]:
        """Half a batch of pictures and half a batch of prompts."""
        prompts = len(_prompts(task)[1])
        pictures, half = task.rows.shape[1] - prompts, max(1, int(self.settings["batch_size"]) // 2)
        of_pictures, of_prompts = random.batches(pictures, half), random.batches(prompts, half)
        while True:
            yield torch.cat([next(of_pictures), pictures + next(of_prompts)], 1)

    def init(self, task: Task, random: Generators) -> Params:
        """The class text, and the adapter as torch's Linear starts it."""
        text = unit(task.class_text("per-prompt").sum(2))  # their mean's direction
        V, _, D = text.shape
        scale = text.new_full((V,), task.logit_scale)
        params = {"weight": text, "text": text, "logit_scale": scale, "wise": task.settings["wise"]}
        if self._adapts:
            H = max(1, D // REDUCTION)
            params["down"] = random.uniform(1 / sqrt(D), (H, D))  # [V, H, D]
            params["up"] = random.uniform(1 / sqrt(H), (H, D))  # [V, H, D], W2^T
        return params

    def head(self, params: Params, task: Task) -> Params:
        """The blend as one weight, where nothing stands between it and the picture."""
        return params if self._adapts else _blended(params)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        if not self._adapts:
            return cosine_logits(query, params["weight"], params["logit_scale"])
        wise = params["wise"][:, None, None]
        zero_shot = cosine_logits(query, params["text"], params["logit_scale"])
        return (1 - wise) * self._trained(params, query) + wise * zero_shot

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Each blend that is tried."""
        if not self.searched:
            return None
        points = ({"wise": torch.full_like(params["wise"], wise)} for wise in TRIED)
        heads = ((own, params | own if self._adapts else _blended(params | own)) for own in points)
        logits = ((own, self.logits(head, query)) for own, head in heads)
        return Found(*tried(logits, labels, folds))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy of pictures and prompts alike, [V]."""
        return mean_cross_entropy(self._trained(params, batch.query), batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer] | None:
        """Products with the residual, the adapter by its kernel; None where that is too wide."""
        if not self._adapts:
            z = batch.query["image"]
        elif params["down"].shape[1] > residual_mlp.MAX_HIDDEN:
            return None
        else:
            ratio = params["logit_scale"].new_full((len(batch.rows),), RATIO)
            layers = params["down"], params["up"].mT, ratio
            pool, work = batch.pool["image"], batch.work["adapter"]
            z, kept = residual_mlp.forward(pool, *layers, batch.rows, normalize=True, work=work)
        scale = params["logit_scale"][:, None, None]
        r = scale * residual(scale * (z @ params["weight"].mT), batch.labels)  # [V, B, C]
        gradients: dict[str, Tensor | Outer] = {"weight": Outer(r, z)}
        if self._adapts:
            own = residual_mlp.backward(kept, r @ params["weight"], wants_alpha=False, work=work)
            gradients |= {"down": own.w1, "up": Outer(own.w2.b, own.w2.a)}
        return gradients

    def _trained(self, params: Params, query: Query) -> Tensor:
        """Logits [V, n, C] of what was learned alone."""
        x = query["image"]
        if self._adapts:
            x = residual_mlp.reference(x, params["down"], params["up"].mT, RATIO)
        return cosine_logits(Query({"image": x}), params["weight"], params["logit_scale"])


def _prompts(task: Task) -> tuple[Tensor, Tensor]:
    """All classes' prompts as unit rows [P, D], and their classes [P]."""
    per_prompt = task.text["per-prompt"]  # [C, T, D], zeros where a class has fewer
    classes, own = (per_prompt != 0).any(-1).nonzero(as_tuple=True)
    return unit(per_prompt[classes, own]), classes


def _blended(params: Params) -> Params:
    """The linear head as WiSE-FT leaves it."""
    wise = params["wise"][:, None, None]
    weight = (1 - wise) * params["weight"] + wise * params["text"]
    return {"weight": weight, "logit_scale": params["logit_scale"]}
