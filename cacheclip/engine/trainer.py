"""The one training loop: all variants of a stack step together."""

from collections.abc import Callable, Sequence

import torch

from cacheclip.engine.optim import Optimizer
from cacheclip.engine.schedule import learning_rates
from cacheclip.methods.base import Params, Trained
from cacheclip.task import Generators, Task


def train(
    method: Trained, task: Task, seeds: Sequence[int], progress: Callable[[float], None]
) -> Params:
    """Fit every variant of the task for the method's epochs and give the params of the last step.

    The gradient is autograd's of the sum of the losses over V: exact for each variant, since no
    variant's loss reads another's params.

    Args:
        method: holds the static settings (epochs, batch_size, optimizer, schedule).
        task: V variants; its settings hold lr and weight_decay.
        seeds: one a variant, for the start and the order of the data.
        progress: called with the share of the epochs done.

    Returns:
        Tensors with leading V, without gradients.
    """
    params = method.init(task, Generators(seeds, "init", task.device, task.dtype))
    moving = {name: params[name].contiguous().requires_grad_() for name in method.trainable}
    params = params | moving
    epochs = int(method.settings["epochs"])
    batches = _batches(
        task.rows.shape[1], int(method.settings["batch_size"]), drop_last=method.drop_last
    )
    rates = learning_rates(
        str(method.settings["schedule"]), task.settings["lr"], epochs, len(batches)
    )
    optimizer = Optimizer(
        str(method.settings["optimizer"]), list(moving.values()), task.settings["weight_decay"]
    )
    orders = Generators(seeds, "order", task.device, task.dtype)
    step = 0
    for epoch in range(epochs):
        order = orders.permutations(task.rows.shape[1])  # [V, N]
        for first, last in batches:
            loss = method.loss(params, task.batch(order[:, first:last]))
            gradients = torch.autograd.grad(loss.sum(), list(moving.values()))
            optimizer.step(gradients, rates[step])
            step += 1
        progress((epoch + 1) / epochs)
    return {name: x.detach() for name, x in params.items()}


def _batches(n: int, size: int, *, drop_last: bool) -> list[tuple[int, int]]:
    """First and last position of each batch; a partial one goes only if a full one stays."""
    cuts = [(first, min(first + size, n)) for first in range(0, n, size)]
    return cuts[:-1] if drop_last and n >= size and n % size else cuts
