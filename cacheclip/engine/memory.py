"""How much runs at once: working memory in bytes, and what counts as too much."""

import torch

from cacheclip.engine.precision import training_dtype
from cacheclip.kernels.weight_grad_update import MOMENTS
from cacheclip.methods.base import Method, Params, Trained
from cacheclip.task import Generators, Task

CPU_BYTES = 512 * 10**6
GPU_SHARE = 0.7  # of what is free: the rest is for the allocator's rounding
CPU_CHUNK = 80 * 10**6  # more training at once falls out of a CPU's caches, less starves its cores


def default_limit(device: torch.device) -> int:
    """Working memory in bytes where the user gives none."""
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return CPU_BYTES


def variants_at_once(method: Method, task: Task, limit: int) -> int:
    """Variants of such a task that run together: what fits; on a CPU no more than run fastest.

    Args:
        method: with its static settings.
        task: of any number of variants; only its shapes count.
        limit: working memory in bytes.
    """
    if task.device.type == "cpu" and isinstance(method, Trained):
        limit = min(limit, CPU_CHUNK)
    return max(1, limit // _bytes(method, task))


def rows_at_once(params: Params, limit: int) -> int:
    """Query rows of which six intermediates [V, rows, width] fit, at least one."""
    V = len(next(iter(params.values())))
    width = max(max(x.shape[1], x.shape[-1]) for x in params.values() if x.ndim > 1)
    return max(1, limit // (6 * 4 * V * width))


def size(params: Params) -> int:
    """Bytes of some variants' params."""
    return sum(x.numel() * x.element_size() for x in params.values())


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator has no class for it."""
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return exhausted or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _bytes(method: Method, task: Task) -> int:
    """What one variant holds from step to step and takes within one; or to be solved."""
    if isinstance(method, Trained):
        one = task.part(slice(0, 1))
        params = method.init(one, Generators([0], "init", task.device, task.dtype))
        copies = 2 + MOMENTS[str(method.settings["optimizer"])]  # the weight and its gradient
        state = copies * size({name: params[name] for name in method.trainable})
        return state + training_dtype(method, task).itemsize * method.step_numbers(task)
    row = sum(x.shape[1:].numel() * x.element_size() for x in task.pool.values())
    return max(1, task.rows.shape[1] * (3 * row + 16 * task.n_classes))


def written(n: float) -> str:
    """Bytes for people: 31 MB."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
