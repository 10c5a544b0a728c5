"""Optimizer steps on stacked parameters: one learning rate and weight decay a variant, in place.

Plain functions of tensors: constructing one torch.optim object costs a process more than a second.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cacheclip.errors import InputError

OPTIMIZERS = ("adamw", "adam", "sgd")
MOMENTUM = 0.9
BETAS = (0.9, 0.999)
EPS = 1e-8


class Optimizer:
    """AdamW, Adam with coupled L2, or SGD with momentum 0.9 (coupled L2, no Nesterov).

    Args:
        name: one of `OPTIMIZERS`.
        params: tensors [V, ...], updated in place by `step`.
        weight_decay: [V].

    Raises:
        InputError: there is no such optimizer.
    """

    def __init__(self, name: str, params: Sequence[Tensor], weight_decay: Tensor) -> None:
        if name not in OPTIMIZERS:
            raise InputError(
                f"no optimizer {name!r}",
                where="setting optimizer",
                fix=f"one of {', '.join(OPTIMIZERS)}",
            )
        self._name = name
        self._params = list(params)
        self._decay = weight_decay
        self._first = [torch.zeros_like(p) for p in params]
        self._second = [torch.zeros_like(p) for p in params] if name != "sgd" else []
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: Tensor) -> None:
        """One step of every variant; lr [V], gradients like the parameters."""
        self._steps += 1
        for k, (p, g) in enumerate(zip(self._params, gradients, strict=True)):
            per_variant = (-1,) + (1,) * (p.ndim - 1)
            rate, decay = lr.view(per_variant), self._decay.view(per_variant)
            if self._name == "sgd":
                g = torch.addcmul(g, p, decay)
                m = self._first[k].mul_(MOMENTUM).add_(g)
                p.addcmul_(m, -rate)
                continue
            if self._name == "adamw":
                p.mul_(1 - rate * decay)
            else:
                g = torch.addcmul(g, p, decay)
            m = self._first[k].lerp_(g, 1 - BETAS[0])
            v = self._second[k].mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
            scale = (1 - BETAS[1] ** self._steps) ** 0.5
            root = v.sqrt().div_(scale).add_(EPS)
            p.addcmul_(m / root, -rate / (1 - BETAS[0] ** self._steps))
