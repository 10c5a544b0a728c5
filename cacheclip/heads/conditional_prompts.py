"""Prompts whose words a small net moves by the picture that is asked about (2203.05557)."""

from math import sqrt

import torch
from torch import Tensor

from cacheclip.heads.prompts import class_features
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.task import Generators, Query, Task, unit

REDUCTION, LEAST = 16, 8  # hidden units between picture and words
LEARNED = ("context", "down", "down_bias", "up", "up_bias")


def start(task: Task, random: Generators) -> dict[str, Tensor]:
    """The words of "a photo of a", and both layers of the net as torch's Linear starts them.

    Returns:
        `context` [V, M, d], `down` [V, H, D], `up` [V, d, H], their biases, `logit_scale` [V].
    """
    tower = TextTransformer.of(task.encoder["tower"], task.dtype)
    words = tower.embed(task.encoder["tower"]["context"])  # [M, d]
    D, d = task.pool["image"].shape[-1], words.shape[-1]
    H = max(LEAST, D // REDUCTION)
    return {
        "context": words.expand(task.variants, -1, -1),
        "down": random.uniform(1 / sqrt(D), (H, D)),
        "down_bias": random.uniform(1 / sqrt(D), (H,)),
        "up": random.uniform(1 / sqrt(H), (d, H)),
        "up_bias": random.uniform(1 / sqrt(H), (d,)),
        "logit_scale": words.new_full((task.variants,), task.logit_scale),
    }


def served(params: dict[str, Tensor], task: Task) -> dict[str, Tensor]:
    """What `logits` reads: what was learned, beside the names of the classes of a task."""
    learned = {name: params[name] for name in (*LEARNED, "logit_scale")}
    return learned | {"tokens": task.text["tokens"].expand(task.variants, -1, -1)}


def logits(params: dict[str, Tensor], query: Query) -> Tensor:
    """[V, n, C], one pass of the tower a picture, so that memory does not grow with them."""
    tower = TextTransformer.of(query.encoder["tower"], params["context"].dtype)
    pictures = (query.part(k, k + 1)["image"] for k in range(len(query)))
    scale = params["logit_scale"][:, None, None]
    return torch.cat([scale * (x @ class_weight(tower, params, x).mT) for x in pictures], 1)


def class_weight(tower: TextTransformer, params: dict[str, Tensor], x: Tensor) -> Tensor:
    """Unit text [V, C, D] of all classes as one picture [1, D] or [V, 1, D] moves their prompts."""
    hidden = (x @ params["down"].mT + params["down_bias"][:, None]).relu()  # [V, 1, H]
    shift = hidden @ params["up"].mT + params["up_bias"][:, None]  # [V, 1, d]
    return unit(class_features(tower, params["tokens"][0], params["context"] + shift))
