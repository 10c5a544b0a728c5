"""Whether a stack trains on features in bfloat16: where the CPU multiplies them in hardware."""

from functools import cache

import torch

from cacheclip.kernels import residual_mlp
from cacheclip.kernels.launch import Workspace

LARGEST_ERROR = 0.02  # of a gradient, relative: rounding bfloat16 to 8 bits gives about 0.005


def half_pays(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware here and agree with float32 ones."""
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported() and _is_exact_enough()


@cache
def _is_exact_enough() -> bool:
    """One random step of an adapter in both precisions, once a process."""
    random = torch.Generator().manual_seed(0)
    V, B, D, H = 2, 32, 128, 32
    x = torch.nn.functional.normalize(torch.randn(V, B, D, generator=random), dim=-1)
    down, up = (torch.randn(V, H, D, generator=random) / D**0.5 for _ in range(2))
    blame = torch.randn(V, B, D, generator=random)

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        weights = down.to(dtype), up.to(dtype).mT
        work = Workspace()
        _, saved = residual_mlp.forward(x.to(dtype), *weights, 0.5, normalize=False, work=work)
        found = residual_mlp.backward(saved, blame, work=work)
        return [(outer.a.mT @ outer.b).float() for outer in (found.w1, found.w2)]

    return all(
        bool((rounded - exact).norm() <= LARGEST_ERROR * exact.norm())
        for rounded, exact in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True)
    )
