"""Methods that no file ships: each stands for what some later method does."""

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.methods.base import (
    ClosedForm,
    Method,
    Online,
    Params,
    Reads,
    Setting,
    Trained,
    steps,
)
from cacheclip.task import Batch, Generators, Query, Task, unit


class MeanOfViews(ClosedForm):
    """Keys as Tip-Adapter makes them: raw views averaged; the query needs none."""

    paper = "a toy of these tests"
    reads = Reads(support=("image/views",), text=("per-prompt",))

    def solve(self, task: Task) -> Params:
        keys = unit(task.support()["image/views"].mean(2))  # [V, N, D]
        weight = keys.new_zeros(task.variants, task.n_classes, keys.shape[-1])
        weight.scatter_add_(1, task.labels.unsqueeze(-1).expand(keys.shape), keys)
        scale = keys.new_full((len(keys),), task.logit_scale)
        return {"weight": unit(weight), "logit_scale": scale}

    def logits(self, params: Params, query: Query) -> Tensor:
        return cosine_logits(query, params["weight"], params["logit_scale"])


class RunningMean(Online, ClosedForm):
    """A picture is compared less the half of the mean of those before it, itself included."""

    paper = "a toy of these tests"
    reads = Reads(text=("norm-mean",))

    def solve(self, task: Task) -> Params:
        text = task.class_text("norm-mean")
        none = text.new_zeros(len(text))
        return {"weight": text, "scale": none + task.logit_scale, "sum": 0 * text[:, 0], "n": none}

    def see(self, state: Params, query: Query) -> Tensor:
        x = query["image"].expand(len(state["n"]), 1, -1)  # [V, 1, D]
        state["sum"] += x[:, 0]
        state["n"] += 1
        mean = state["sum"] / state["n"][:, None]
        seen = Query({"image": unit(x - mean[:, None] / 2)})
        return cosine_logits(seen, state["weight"], state["scale"])


class FreeText(Trained):
    """Raw text that moves, held back by its start, which the answers do not need."""

    paper = "a toy of these tests"
    reads = Reads(text=("raw-mean",))
    fused = False
    trainable = ("weight",)
    table = {
        "penalty": Setting(0.01, low=0.0, grid=(0.1, 0.01, 0.0), power=2.0, zero_shot="high"),
        **steps(lr=0.01, epochs=5, batch_size=4, optimizer="sgd", schedule="cosine"),
    }

    def init(self, task: Task, random: Generators) -> Params:
        text = task.class_text("raw-mean")
        scale = text.new_full((len(text),), task.logit_scale)
        return {
            "weight": text,
            "anchor": text,
            "logit_scale": scale,
            "penalty": task.settings["penalty"],
        }

    def head(self, params: Params, task: Task) -> Params:
        return {name: params[name] for name in ("weight", "logit_scale")}

    def logits(self, params: Params, query: Query) -> Tensor:
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        away = (params["weight"] - params["anchor"]).square().sum((-1, -2))  # [V]
        fit = mean_cross_entropy(self.logits(params, batch.query), batch.labels)
        return fit + params["penalty"] * away / 2


class TurnedText(FreeText):
    """The same with the direction of the text alone."""

    def logits(self, params: Params, query: Query) -> Tensor:
        return cosine_logits(query, unit(params["weight"]), params["logit_scale"])


class SharedShift(Trained):
    """One vector beside the text of all classes: it serves classes that it has not seen."""

    paper = "a toy of these tests"
    reads = Reads(text=("raw-mean",))
    transfers = True
    fused = False
    trainable = ("shift",)
    table = steps(lr=0.1, epochs=5, batch_size=4, optimizer="adam", schedule="constant")

    def init(self, task: Task, random: Generators) -> Params:
        text = task.class_text("raw-mean")
        scale = text.new_full((len(text),), task.logit_scale)
        return {"shift": torch.zeros_like(text[:, 0]), "logit_scale": scale}

    def head(self, params: Params, task: Task) -> Params:
        moved = task.class_text("raw-mean") + params["shift"][:, None]
        return {"weight": unit(moved), "logit_scale": params["logit_scale"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return mean_cross_entropy(
            self.logits(self.head(params, batch.task), batch.query), batch.labels
        )


TOYS: tuple[type[Method], ...] = (MeanOfViews, RunningMean, FreeText, SharedShift)
