"""A stack: V variants of one method that share static settings, data set, shots and steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor

from cacheclip.engine import memory
from cacheclip.engine.precision import training_dtype
from cacheclip.engine.trainer import train
from cacheclip.heads.class_balance import balanced_weights, log_shares
from cacheclip.methods.base import ClosedForm, Method, Params, Trained
from cacheclip.task import Query, Task

PRECISION_NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16"}


def fit(
    method: Method,
    task: Task,
    seeds: Sequence[int],
    progress: Callable[[float], None],
    limit: int,
    notice: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[int, int, Params]]:
    """Solve or train all variants, in chunks that fit: first, last, and params of first..last-1.

    A chunk that runs out of memory is halved, and so are those after it.

    Args:
        method: with its static settings.
        task: V variants.
        seeds: the init seed of each variant.
        progress: called with the share that is done.
        limit: working memory in bytes.
        notice: called with a line for the user when a chunk was too large.
    """
    most = memory.variants_at_once(method, task, limit)
    at_once = ceil(task.variants / ceil(task.variants / most))  # even chunks
    first = 0
    while first < task.variants:
        last = min(first + at_once, task.variants)

        def advance(share: float, first: int = first, last: int = last) -> None:
            progress((first + share * (last - first)) / task.variants)

        try:
            params = _run(method, task.part(slice(first, last)), seeds[first:last], advance)
        except (MemoryError, RuntimeError) as error:
            if not memory.is_exhausted(error) or last - first == 1:
                raise
            at_once = (last - first) // 2
        else:
            advance(1.0)
            yield first, last, params
            first = last
            continue
        # Here, not above: a handled error keeps the tensors of its frames alive.
        notice(f"out of memory with {last - first} variants at once: going on with {at_once}")
        if task.device.type == "cuda":
            torch.cuda.empty_cache()


def _run(
    method: Method, task: Task, seeds: Sequence[int], progress: Callable[[float], None]
) -> Params:
    if method.settings.get("class_weight") == "balanced":
        weights = balanced_weights(task.labels, task.n_classes)
        task = replace(task, weights=weights.to(task.dtype))
    if isinstance(method, Trained):
        params = train(method, task, seeds, progress)
    elif isinstance(method, ClosedForm):
        params = method.solve(task)
    else:
        raise TypeError(f"{method.name} is neither Trained nor ClosedForm")
    if method.settings.get("prior") == "uniform":
        shares = log_shares(task.labels, task.weights, task.n_classes).to(task.dtype)
        params = params | {"bias": params["bias"] - shares if "bias" in params else -shares}
    return params


def precision(method: Method, task: Task) -> str | None:
    """What the training steps of such a stack are computed in; None where there are none."""
    return PRECISION_NAMES[training_dtype(method, task)] if isinstance(method, Trained) else None


def logits_in_parts(
    method: Method, params: Params, query: Query, limit: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Logits of query rows first..last-1, [V, last-first, C], part by part.

    A method whose logit depends on other pictures of the query gets them all at once.
    """
    n = len(query)
    step = n if method.setting != "inductive" else memory.rows_at_once(params, limit)
    first = 0
    while first < n:
        last = min(first + step, n)
        try:
            with torch.no_grad():
                logits = method.logits(params, query.part(first, last))
        except (MemoryError, RuntimeError) as error:
            fixed = method.setting != "inductive" or last - first == 1
            if fixed or not memory.is_exhausted(error):
                raise
            step = (last - first) // 2
            continue
        yield first, last, logits
        first = last


def finite(params: Params) -> Tensor:
    """Which variants have only finite numbers in their params: [V] bool."""
    checked = [
        x.reshape(len(x), -1).isfinite().all(1) for x in params.values() if x.is_floating_point()
    ]
    return torch.stack(checked).all(0)
