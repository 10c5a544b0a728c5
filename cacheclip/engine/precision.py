"""What a stack trains in: float32, or bfloat16 products where the CPU has hardware for them."""

from functools import cache

import torch
from torch import Tensor

from cacheclip.kernels import residual_mlp
from cacheclip.kernels.launch import Workspace
from cacheclip.methods.base import Trained
from cacheclip.task import Task

LEAST_BATCH, LEAST_WIDTH = 256, 256  # below, rounding the weights costs what the products gain
LARGEST_ERROR = 0.1  # of a gradient, relative: 0.05 where activations near zero change sides


def training_dtype(method: Trained, task: Task) -> torch.dtype:
    """The dtype of the features that the gradients are computed from.

    The method's `precision` decides, where it has one; `auto` is bfloat16 where that is faster and
    agrees with float32. It depends on nothing that a stack's other variants change.
    """
    asked = method.settings.get("precision", "fp32")
    by_hand = task.device.type == "cpu" and method.half(task)
    if asked == "fp32" or not by_hand or task.dtype != torch.float32:
        return task.dtype
    batch = min(task.rows.shape[1], int(method.settings["batch_size"]))
    width = max(x.shape[-1] for x in task.pool.values())
    large = batch >= LEAST_BATCH and width >= LEAST_WIDTH
    in_hardware = torch.cpu._is_amx_tile_supported()
    if asked == "bf16" or (large and in_hardware and _is_exact_enough()):
        return torch.bfloat16
    return task.dtype


@cache
def _is_exact_enough() -> bool:
    """One random step of an adapter in both precisions, once a process."""
    random = torch.Generator().manual_seed(0)
    V, B, D, H = 2, 64, 128, 32
    x = torch.nn.functional.normalize(torch.randn(V, B, D, generator=random), dim=-1)
    down, up = (torch.randn(V, H, D, generator=random) / D**0.5 for _ in range(2))
    blame = torch.randn(V, B, D, generator=random)

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        weights = down.to(dtype), up.to(dtype).mT
        work = Workspace()
        _, saved = residual_mlp.forward(x.to(dtype), *weights, 0.5, normalize=False, work=work)
        found = residual_mlp.backward(saved, blame, work=work)
        return [(outer.a.mT @ outer.b).float() for outer in (found.w1, found.w2)]

    pairs = zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True)
    return all(bool((a - b).norm() <= LARGEST_ERROR * b.norm()) for a, b in pairs)
