"""Learning rates of every step, fixed before the first one."""

from math import cos, pi

import torch
from torch import Tensor

from cacheclip.errors import InputError
from cacheclip.methods.base import STEP_WORDS

WARM_UP_LR = 1e-5
WARM_UP_STEPS = 50


def learning_rates(schedule: str, lr: Tensor, epochs: int, steps_per_epoch: int) -> Tensor:
    """The rate of each step and variant.

    `constant`; `cosine`: to 0, falling at every step (the Tip-Adapter family); `dassl`: constant
    within an epoch, 1e-5 in the first, then a cosine over the epochs that does not quite reach 0
    (the trainer under CoOp and CLIP-Adapter); `warm-cosine`: 1e-5 in the first step, then up in a
    line until step 50, then a cosine over the steps (cross-modal adaptation, 2301.06267).

    Args:
        schedule: one of `STEP_WORDS["schedule"]`.
        lr: [V].
        epochs: passes over the support set.
        steps_per_epoch: batches a pass.

    Returns:
        [steps, V].

    Raises:
        InputError: there is no such schedule.
    """
    steps = epochs * steps_per_epoch
    if schedule == "constant":
        return lr.expand(steps, -1)
    if schedule == "cosine":
        factor = [(1 + cos(pi * t / steps)) / 2 for t in range(steps)]
        return lr.new_tensor(factor)[:, None] * lr
    if schedule == "dassl":
        factor = [(1 + cos(pi * (e - 1) / epochs)) / 2 for e in range(1, epochs)]
        rates = torch.cat(
            [torch.full_like(lr, WARM_UP_LR)[None], lr.new_tensor(factor)[:, None] * lr]
        )
        return rates.repeat_interleave(steps_per_epoch, 0)
    if schedule == "warm-cosine":
        up = [t / WARM_UP_STEPS for t in range(1, min(WARM_UP_STEPS, steps))]
        down = [(1 + cos(pi * t / steps)) / 2 for t in range(max(0, steps - WARM_UP_STEPS))]
        first = torch.full_like(lr, WARM_UP_LR)[None]
        return torch.cat([first, lr.new_tensor([*up, *down])[:, None] * lr])
    raise InputError(
        f"no schedule {schedule!r}",
        where="setting schedule",
        fix=f"one of {', '.join(STEP_WORDS['schedule'])}",
    )
