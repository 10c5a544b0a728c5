"""Small tasks and queries of any method: just the layers, text and frozen parts that it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cacheclip.kernels.launch import Workspace
from cacheclip.methods.base import SEARCH, Method, Settings
from cacheclip.task import Batch, Generators, Query, Task, class_text, unit

C, D, SHOTS, VIEWS = 5, 7, 2, 3
E, WIDTH, VOCABULARY, END, CONTEXT = 9, 4, 12, 11, 24  # before the projections; of the text tower
LOGIT_SCALE = 40.0
PICTURES = 4  # of a class, in the pool


def normal(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def randoms(task: Task) -> Generators:
    """What a step draws from where there is no run."""
    return Generators([0] * task.variants, "noise", task.device, task.dtype)


def batch_of(
    task: Task, index: Tensor | None = None, work: Mapping[str, Workspace] | None = None
) -> Batch:
    """The support pictures at positions [V, B]; all of them by default."""
    every = torch.arange(task.rows.shape[1]).expand(task.variants, -1)
    return task.at(every if index is None else index, {} if work is None else work, randoms(task))


def reordered(task: Task, index: Tensor) -> Task:
    """The same support pictures at positions [V, n] of each variant's rows."""
    rows, labels = task.rows.gather(1, index), task.labels.gather(1, index)
    return replace(task, rows=rows, labels=labels)


def frozen(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """All parts of an encoder that a method may ask for, a text tower of one block among them."""
    return {
        "projection": normal((E, D), 11, dtype),
        "projection-bias": normal((D,), 12, dtype),
        "text-projection": normal((WIDTH, D), 13, dtype),
        "tower": _tower(dtype),
    }


def _tower(dtype: torch.dtype) -> dict[str, Tensor]:
    block, d = "transformer.resblocks.0.", WIDTH
    shapes = {
        "token_embedding.weight": (VOCABULARY, d),
        "positional_embedding": (CONTEXT, d),
        f"{block}attn.in_proj_weight": (3 * d, d),
        f"{block}attn.in_proj_bias": (3 * d,),
        f"{block}attn.out_proj.weight": (d, d),
        f"{block}attn.out_proj.bias": (d,),
        f"{block}mlp.c_fc.weight": (4 * d, d),
        f"{block}mlp.c_fc.bias": (4 * d,),
        f"{block}mlp.c_proj.weight": (d, 4 * d),
        f"{block}mlp.c_proj.bias": (d,),
        "text_projection": (d, D),
    }
    arrays = {
        name: normal(shape, 20 + k, dtype) / 2 for k, (name, shape) in enumerate(shapes.items())
    }
    for norm in (f"{block}ln_1", f"{block}ln_2", "ln_final"):
        arrays |= {
            f"{norm}.weight": torch.ones(d, dtype=dtype),
            f"{norm}.bias": torch.zeros(d, dtype=dtype),
        }
    arrays["context"] = torch.tensor([3, 4, 6, 7])  # what stands for "a photo of a"
    numbers = {"heads": 2, "quick-gelu": 0, "end": END}
    return arrays | {name: torch.tensor([number]) for name, number in numbers.items()}


def pictures(n: int, seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Every layer of n pictures; what lies before the projection becomes the image by it."""
    parts = frozen(torch.float64)
    before = normal((n, E), seed)
    raw = before @ parts["projection"] + parts["projection-bias"]
    layers = {
        "image": unit(raw),
        "image-norm": raw.norm(dim=-1, keepdim=True),
        "pre-projection": before,
        "image/views": unit(normal((n, VIEWS, D), seed + 100)),
        "patches": normal((n, 6, D), seed + 200),
        "aux:image": unit(normal((n, D + 2), seed + 300)),
        "aux:image-norm": normal((n, 1), seed + 400).abs() + 1,
    }
    return {name: x.to(dtype) for name, x in layers.items()}


def text_of(names: Sequence[str], classes: Sequence[int], dtype: torch.dtype) -> dict[str, Tensor]:
    """Text ensembles of some classes, and the tokens of their names, which are one to three."""
    prompts = (normal((C, 2, D), 2) + 1).to(dtype)[list(classes)]
    sentences = (normal((C, 3, D), 4) + 1).to(dtype)
    sentences[1, 2:] = 0  # one class has fewer
    sentences = sentences[list(classes)]
    families = {"": prompts, "cupl": sentences, "all": torch.cat([prompts, sentences], 1)}
    made = {}
    for name in names:
        family, _, ensemble = name.rpartition(":")
        if name != "tokens":
            made[name] = class_text(families[family], [ensemble])[ensemble]
    if "tokens" in names:
        rows = [[1, *range(2, 3 + c % 3), 5 + c, END, *[0] * (2 - c % 3)] for c in range(C)]
        made["tokens"] = torch.tensor(rows)[list(classes)]
    return made


def make_task(
    method: Method,
    settings: Sequence[Settings],
    draws: Sequence[int],
    dtype: torch.dtype = torch.float64,
    order: Sequence[int] = range(C),
) -> Task:
    """V variants; draw d reads pictures d, d + 1, ... of a class. Class k of it is order[k]."""
    reads = method.reads
    pool = pictures(PICTURES * C, 1, dtype)
    shots = SHOTS if method.learns == "support" else 0
    support = [
        [c * PICTURES + (d + k) % PICTURES for c in range(C) for k in range(shots)] for d in draws
    ]
    labels = [[list(order).index(row // PICTURES) for row in rows] for rows in support]
    return Task(
        pool={name: pool[name] for name in reads.support},
        rows=torch.tensor(support, dtype=torch.int64).reshape(len(draws), -1),
        labels=torch.tensor(labels, dtype=torch.int64).reshape(len(draws), -1),
        text=text_of(reads.text, order, dtype),
        settings=method.numbers_of(settings, dtype=dtype),
        logit_scale=LOGIT_SCALE,
        n_classes=C,
        encoder={name: frozen(dtype)[name] for name in reads.encoder},
    )


def query_of(method: Method, n: int, dtype: torch.dtype = torch.float64) -> Query:
    layers = pictures(n, 3, dtype)
    encoder = {name: frozen(dtype)[name] for name in method.reads.encoder}
    return Query({name: layers[name] for name in method.reads.query}, encoder)


def candidates(method: Method) -> list[Settings]:
    """Three settings that differ in every number that has a grid."""
    made = []
    for k in range(3):
        settings = type(method).fixed(SHOTS, LOGIT_SCALE)
        for name, own in method.table.items():
            values = [value for value in own.grid if not isinstance(value, str)]
            if SEARCH in own.grid and not own.static:
                values = [float(settings[name]) * factor for factor in (0.5, 1, 2)]
            if values and not own.static:
                settings[name] = values[(k + 1) % len(values)]
        made.append(settings)
    return made
