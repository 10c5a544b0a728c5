"""A stack: V variants of one method that share static settings, data set, shots and steps."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cacheclip.engine.trainer import train
from cacheclip.methods.base import ClosedForm, Method, Params, Trained
from cacheclip.task import Query, Task

WORKING_BYTES = 2**29  # what one chunk of variants or of query rows may take


def fit(
    method: Method, task: Task, seeds: Sequence[int], progress: Callable[[float], None]
) -> Iterator[tuple[int, int, Params]]:
    """Solve or train all variants, in chunks that fit: first, last, and params of first..last-1.

    Args:
        method: with its static settings.
        task: V variants.
        seeds: the init seed of each variant.
        progress: called with the share that is done.
    """
    at_once = _variants_at_once(method, task)
    for first in range(0, task.variants, at_once):
        last = min(first + at_once, task.variants)

        def advance(share: float, first: int = first, last: int = last) -> None:
            progress((first + share * (last - first)) / task.variants)

        part = task.part(first, last)
        if isinstance(method, Trained):
            yield first, last, train(method, part, seeds[first:last], advance)
        elif isinstance(method, ClosedForm):
            yield first, last, method.solve(part)
        advance(1.0)


def logits_in_parts(
    method: Method, params: Params, query: Query
) -> Iterator[tuple[int, int, Tensor]]:
    """Logits of query rows first..last-1, [V, last-first, C], part by part.

    A method whose logit depends on other pictures of the query gets them all at once.
    """
    n = len(query)
    step = n if method.setting != "inductive" else _rows_at_once(params)
    with torch.no_grad():
        for first in range(0, n, step):
            last = min(first + step, n)
            yield first, last, method.logits(params, query.part(first, last))


def finite(params: Params) -> Tensor:
    """Which variants have only finite numbers in their params: [V] bool."""
    checked = [
        x.reshape(len(x), -1).isfinite().all(1) for x in params.values() if x.is_floating_point()
    ]
    return torch.stack(checked).all(0)


def take(params: Params, variants: Sequence[int]) -> Params:
    """The params of some variants, as copies that keep no others alive."""
    index = torch.tensor(list(variants), device=next(iter(params.values())).device)
    return {name: x.index_select(0, index) for name, x in params.items()}


def chunks(heads: Sequence[Params]) -> Iterator[tuple[int, int]]:
    """First and last of runs of heads [1, ...] of one shape whose sum fits the working memory."""
    size = sum(x.numel() * x.element_size() for x in heads[0].values())
    step = max(1, WORKING_BYTES // max(1, size))
    for first in range(0, len(heads), step):
        yield first, min(first + step, len(heads))


def _variants_at_once(method: Method, task: Task) -> int:
    """Variants that fit the working memory: support rows thrice, or head, state and a batch."""
    row = sum(x.shape[1:].numel() * x.element_size() for x in task.pool.values())
    size = task.rows.shape[1] * (3 * row + 16 * task.n_classes)
    if isinstance(method, Trained):
        width = max(x.shape[-1] for x in task.pool.values())
        batch = int(method.settings["batch_size"])
        size = 4 * (8 * width * width + batch * (8 * width + 6 * task.n_classes))
    return max(1, WORKING_BYTES // max(1, size))


def _rows_at_once(params: Params) -> int:
    """Query rows whose widest intermediate [V, rows, width] fits the working memory."""
    V = len(next(iter(params.values())))
    width = max(x.shape[1] for x in params.values() if x.ndim > 1)
    return max(1, WORKING_BYTES // (4 * 4 * V * width))
