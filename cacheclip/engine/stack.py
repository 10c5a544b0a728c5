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
from cacheclip.methods.base import ClosedForm, Method, Online, Params, Trained
from cacheclip.task import Generators, Query, Task

PRECISION_NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16"}


def fit(
    method: Method,
    task: Task,
    seeds: Sequence[int],
    progress: Callable[[float], None],
    limit: int,
    notice: Callable[[str], None] = lambda text: None,
    held: Task | None = None,
    epochs: int | None = None,
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
        held: pictures held out from each variant, by which a trained method stops; by default it
            goes on to the last epoch.
        epochs: after which a trained method stops, where a search found that before.
    """
    most = memory.variants_at_once(method, task, limit, held) if task.variants > 1 else 1
    at_once = ceil(task.variants / ceil(task.variants / most))  # even chunks

    def run(first: int, last: int) -> Params:
        def advance(share: float) -> None:
            progress((first + share * (last - first)) / task.variants)

        own = slice(first, last)
        watched = held.part(own) if held is not None else None
        params = _run(method, task.part(own), seeds[own], advance, watched, epochs)
        advance(1.0)
        return params

    def halved(n: int, at_once: int) -> None:
        notice(f"out of memory with {n} variants at once: going on with {at_once}")
        if task.device.type == "cuda":
            torch.cuda.empty_cache()

    yield from memory.in_parts(task.variants, at_once, run, halved)


def _run(
    method: Method,
    task: Task,
    seeds: Sequence[int],
    progress: Callable[[float], None],
    held: Task | None,
    epochs: int | None,
) -> Params:
    if method.settings.get("class_weight") == "balanced":
        weights = balanced_weights(task.labels, task.n_classes)
        task = replace(task, weights=weights.to(task.dtype))
    if isinstance(method, Trained):
        params = train(method, task, seeds, progress, held, epochs)
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


def head(method: Method, params: Params, task: Task) -> Params:
    """What `logits` reads, made of what was learned, for the classes of the task.

    The shift that takes the class shares of the support set off the logits is served too.
    """
    with torch.no_grad():
        served = method.head(params, task)
    if method.settings.get("prior") == "uniform":
        served = served | {"bias": params["bias"]}
    return served


def head_elsewhere(method: Method, params: Params, task: Task) -> Params:
    """The same for classes that were not learned from.

    Of their shares nothing is known, so that no shift goes with them.
    """
    with torch.no_grad():
        return method.head({name: x for name, x in params.items() if name != "bias"}, task)


def logits_in_parts(
    method: Method,
    params: Params,
    query: Query,
    limit: int,
    seeds: Sequence[int] | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Logits of query rows first..last-1, [V, last-first, C], part by part.

    A method whose logit depends on other pictures of the query gets them all at once.

    Args:
        method: with its static settings.
        params: of V variants.
        query: the pictures.
        limit: working memory in bytes.
        seeds: of each variant, for the order in which a stream comes; by default that of the query.
    """
    n = len(query)
    if method.setting != "inductive":
        yield 0, n, _of_the_whole(method, params, query, limit, seeds)
        return

    def answer(first: int, last: int) -> Tensor:
        with torch.no_grad():
            return method.logits(params, query.part(first, last))

    yield from memory.in_parts(n, memory.rows_at_once(method, params, query, limit), answer)


def _of_the_whole(
    method: Method, params: Params, query: Query, limit: int, seeds: Sequence[int] | None
) -> Tensor:
    """Logits [V, n, C] of all pictures, as many variants at once as memory holds."""
    V = len(next(iter(params.values())))

    def answer(first: int, last: int) -> Tensor:
        own = {name: x[first:last] for name, x in params.items()}
        pictures = query.variants(first, last)
        with torch.no_grad():
            if isinstance(method, Online) and seeds is not None:
                return _stream(method, own, pictures, seeds[first:last])
            return method.logits(own, pictures)

    at_once = memory.answers_at_once(method, params, query, limit)
    return torch.cat([logits for _, _, logits in memory.in_parts(V, at_once, answer)])


def _stream(method: Online, params: Params, query: Query, seeds: Sequence[int]) -> Tensor:
    """Logits [V, n, C] by the place of a picture in the query, which comes in an order by seed."""
    x = next(iter(query.layers.values()))
    order = Generators(seeds, "stream", x.device, x.dtype).permutations(len(query))  # [V, n]
    logits = method.stream(params, (query.at(order[:, k : k + 1]) for k in range(len(query))))
    return logits.gather(1, order.argsort(1)[..., None].expand(logits.shape))


def finite(method: Method, params: Params) -> Tensor:
    """Which variants have only finite numbers in what was learned: [V] bool.

    In the state of a stream an empty place may be infinite.
    """
    number = torch.isnan if isinstance(method, Online) else lambda x: ~torch.isfinite(x)
    checked = [
        ~number(x.reshape(len(x), -1)).any(1) for x in params.values() if x.is_floating_point()
    ]
    return torch.stack(checked).all(0)
