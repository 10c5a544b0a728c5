"""How much runs at once: the bytes that a computation holds, seen as it runs, and what is too much.

A method declares nothing about memory. One step, one solution or a few pictures of one variant run
for the record, once for all work of the same shapes, and the plan multiplies what they held.
"""

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cacheclip.engine.precision import training_dtype
from cacheclip.engine.trainer import steps
from cacheclip.engine.watch import Watch
from cacheclip.errors import CacheclipError
from cacheclip.methods.base import ClosedForm, Method, Params, Trained
from cacheclip.task import Query, Task, Unread

Made = TypeVar("Made")

CPU_BYTES = 512 * 10**6
GPU_SHARE = 0.7  # of what is free: the rest is for the allocator's rounding
CPU_CHUNK = 80 * 10**6  # more training at once falls out of a CPU's caches, less starves its cores
UNSEEN = 2  # times what tensors held: an operation's own scratch memory is not among them
MOST_OPERATIONS = 1000  # of a solution: what iterates has held the most by then
FEW, MORE = 2, 4  # pictures whose difference is what each further one holds


def default_limit(device: torch.device) -> int:
    """Working memory in bytes where the user gives none."""
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return CPU_BYTES


def variants_at_once(method: Method, task: Task, limit: int, held: Task | None = None) -> int:
    """Variants of such a task that run together: what fits; on a CPU no more than run fastest.

    Args:
        method: with its static settings.
        task: of any number of variants; only the shapes of one count.
        limit: working memory in bytes.
        held: the pictures held out from each variant, where they are looked at on the way.
    """
    first = slice(0, 1)
    one = _of_a_variant(method, task.part(first), held.part(first) if held is not None else None)
    most = limit // (UNSEEN * one)
    if task.device.type == "cpu" and isinstance(method, Trained):
        most = min(most, CPU_CHUNK // one)
    return max(1, most)


def rows_at_once(method: Method, params: Params, query: Query, limit: int) -> int:
    """Pictures of the query that all variants answer for together, at least one."""
    if len(query) <= MORE:
        return len(query)

    def pictures(n: int) -> int:
        return _measured(
            (n, *_shapes(params), *_shapes(query.layers)),
            method,
            lambda: method.logits(params, query.part(0, n)),
        )

    few, more = pictures(FEW), pictures(MORE)
    each = max(1, (more - few) // (MORE - FEW))
    return max(1, (limit // UNSEEN - few) // each)


def answers_at_once(method: Method, params: Params, query: Query, limit: int) -> int:
    """Variants that answer for the whole query together, where a logit depends on other pictures.

    A stream holds for all of its pictures what it holds for one.
    """
    if _variants(params) == 1:
        return 1
    one = {name: x[:1] for name, x in params.items()}
    own = query.variants(0, 1).part(0, 1 if method.setting == "online" else len(query))
    shapes = *_shapes(one), *_shapes(own.layers)
    each = _measured(shapes, method, lambda: method.logits(one, own))
    return max(1, limit // (UNSEEN * each))


def size(params: Params) -> int:
    """Bytes of some variants' params."""
    return sum(x.numel() * x.element_size() for x in params.values())


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator has no class for it."""
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return exhausted or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def in_parts(
    n: int,
    at_once: int,
    run: Callable[[int, int], Made],
    halved: Callable[[int, int], None] = lambda n, at_once: None,
) -> Iterator[tuple[int, int, Made]]:
    """What `run` makes of first..last-1 of n things, part by part: first, last, and that.

    A part that runs out of memory is halved, and so are those after it.

    Args:
        n: how many there are.
        at_once: how many of them a part has.
        run: called with first and last.
        halved: called with how many were too many, and how many come next.

    Raises:
        MemoryError, RuntimeError: it runs out with one.
    """
    first = 0
    while first < n:
        last = min(first + at_once, n)
        try:
            made = run(first, last)
        except (MemoryError, RuntimeError) as error:
            if last - first == 1 or not is_exhausted(error):
                raise
        else:
            yield first, last, made
            first = last
            continue
        # Here, not above: a handled error keeps the tensors of its frames alive.
        at_once = (last - first) // 2
        halved(last - first, at_once)


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The bytes of the tensors that a computation holds at once, at most; of inputs it counts none.

    Args:
        operations: after that many the computation is broken off, by a `_SeenEnough`.
    """

    def __init__(self, operations: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0
        self._left = operations
        self._held = 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: to be skipped by the compiler it would first be loaded, which takes seconds."""
        return False

    def __torch_dispatch__(
        self,
        op: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = op(*args, **(kwargs or {}))
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise _SeenEnough
        given = {x.untyped_storage()._cdata for x in _tensors((args, kwargs))}
        for x in _tensors(out):
            storage = x.untyped_storage()
            name = storage._cdata
            if name in given or name in self._known:
                continue
            self._known.add(name)
            self._held += storage.nbytes()
            self.bytes = max(self.bytes, self._held)
            weakref.finalize(storage, self._freed, name, storage.nbytes())
        return out

    def _freed(self, name: int, n: int) -> None:
        self._known.discard(name)
        self._held -= n


class _SeenEnough(Exception):  # noqa: N818 - it is no error
    """A computation was broken off: what it holds is known."""


def _variants(params: Params) -> int:
    return len(next(iter(params.values())))


def _tensors(tree: object) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


_bytes: dict[Hashable, int] = {}  # by what was run and the shapes of all that it read


def _measured(
    shapes: Hashable, method: Method, run: Callable[[], object], operations: int | None = None
) -> int:
    """The bytes that a computation of this method holds at once; seen once for the same shapes."""
    key = type(method), *sorted(method.settings.items()), shapes
    if key not in _bytes:
        peak = Peak(operations)
        try:
            with torch.no_grad(), peak:
                kept = run()  # what comes out is held with what is on the way
                del kept
        except (CacheclipError, _SeenEnough):
            pass  # an error is met again, where it has a place to go
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            return 2**62
        _bytes[key] = max(1, peak.bytes)
    return _bytes[key]


def _of_a_variant(method: Method, one: Task, held: Task | None = None) -> int:
    """What a task [1, ...] holds from step to step and within one; or while it is solved."""
    parts = [one.pool, one.text, one.encoder, {"rows": one.rows}]
    parts += [held.pool, {"held": held.rows}] if held is not None else []
    shapes = one.n_classes, one.views, *(name for part in parts for name in _shapes(part))
    if isinstance(method, ClosedForm):
        return _measured(shapes, method, lambda: method.solve(one), MOST_OPERATIONS)
    if not isinstance(method, Trained):
        return 1
    short = type(method)(**{**method.settings, "epochs": 1})  # rates are made for a whole run
    seen = short.data(one)
    dtype = training_dtype(short, seen)
    rounded = 0 if dtype == seen.dtype else size({n: x.to(dtype) for n, x in seen.pool.items()})

    def step() -> Params:
        with torch.enable_grad():
            params = next(steps(short, seen, [0]))
        if held is not None:
            Watch(short, one, held).look(params)
        return params

    return max(1, _measured(shapes, short, step) - rounded)  # one copy serves all variants


def _shapes(tensors: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """The shapes of tensors by name; of anything else which one it is."""
    return tuple((name, *_shape(x)) for name, x in sorted(tensors.items()))


def _shape(x: object) -> tuple[Hashable, ...]:
    if isinstance(x, Tensor):
        return x.shape, x.dtype, x.device
    return (x.shape,) if isinstance(x, Unread) else (id(x),)


def written(n: float) -> str:
    """Bytes for people: 31 MB."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
