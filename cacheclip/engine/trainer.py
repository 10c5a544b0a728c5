"""The one training loop: all variants of a stack step together."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from cacheclip.engine.precision import training_dtype
from cacheclip.engine.schedule import learning_rates
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import (
    Optimizer,
    Outer,
    Rates,
    Rule,
    neighbours,
    weight_grad_update,
)
from cacheclip.methods.base import Params, Trained
from cacheclip.task import Batch, Generators, Task


def train(
    method: Trained, task: Task, seeds: Sequence[int], progress: Callable[[float], None]
) -> Params:
    """Fit every variant of the task for the method's epochs and give the params of the last step.

    The gradient is that of the sum of the losses over V: exact for each variant, since no variant's
    loss reads another's params.

    Args:
        method: holds the static settings (epochs, batch_size, optimizer, schedule).
        task: V variants; its settings hold lr and weight_decay.
        seeds: one a variant, for the start and the order of the data.
        progress: called with the share of the epochs done.

    Returns:
        Tensors with leading V, without gradients.
    """
    order = _by_rates(task)
    if order != sorted(order):
        there = torch.tensor(order, device=task.device)
        sorted_ = train(method, task.part(there), [seeds[v] for v in order], progress)
        back = there.argsort()  # a tensor that is one for all variants stays one
        return {name: x[back] if x.stride(0) else x for name, x in sorted_.items()}
    params = method.init(task, Generators(seeds, "init", task.device, task.dtype))
    moving = {  # copies: what a param starts from belongs to the task, and steps change in place
        name: params[name].clone(memory_format=torch.contiguous_format).requires_grad_()
        for name in method.trainable
    }
    params = params | moving
    epochs, N = int(method.settings["epochs"]), task.rows.shape[1]
    batches = _batches(N, int(method.settings["batch_size"]), drop_last=method.drop_last)
    rates = _rates(method, task, epochs, len(batches))
    rule = Rule(cast(Optimizer, method.settings["optimizer"]), eps=method.eps)
    state = {name: rule.state(x) for name, x in moving.items()}
    work: defaultdict[str, Workspace] = defaultdict(Workspace)
    dtype = training_dtype(method, task)
    task = replace(task, pool={name: x.to(dtype) for name, x in task.pool.items()})
    orders = Generators(seeds, "order", task.device, task.dtype)
    for epoch in range(epochs):
        shuffled = task.ordered(orders.permutations(N))
        for first, last in batches:
            gradients = _gradients(method, params, moving, shuffled.batch(first, last, work))
            now = next(rates)
            with torch.no_grad():
                for name, weight in moving.items():
                    own = gradients[name], state[name]
                    weight_grad_update(weight, *own, rule, now, work=work["update"])
        progress((epoch + 1) / epochs)
    return {name: x.detach() for name, x in params.items()}


def _gradients(
    method: Trained, params: Params, moving: Params, batch: Batch
) -> Mapping[str, Tensor | Outer]:
    """By hand where the method can, else by autograd.

    On a GPU by autograd: the kernels compile for one, but none has run them yet.
    """
    if batch.rows.device.type == "cpu":
        with torch.no_grad():
            by_hand = method.grads(params, batch)
        if by_hand is not None:
            return by_hand
    loss = method.loss(params, batch).sum()
    return dict(zip(moving, torch.autograd.grad(loss, list(moving.values())), strict=True))


def _by_rates(task: Task) -> list[int]:
    """The variants in an order that brings equal rates together: one fused update for each run."""
    rates = [task.settings[name].tolist() for name in ("lr", "weight_decay")]
    return sorted(range(task.variants), key=list(zip(*rates, strict=True)).__getitem__)


def _rates(method: Trained, task: Task, epochs: int, batches: int) -> Iterator[Rates]:
    """The rates of each step; which variants share theirs is the same at every one."""
    lr, decay = task.settings["lr"], task.settings["weight_decay"]
    table = learning_rates(str(method.settings["schedule"]), lr, epochs, batches)  # [steps, V]
    decays = decay.tolist()
    runs = neighbours(list(zip(lr.tolist(), decays, strict=True)))
    step = torch.zeros((), device=task.device)
    for row, values in zip(table, table[:, [a for a, _ in runs]].tolist(), strict=True):
        step += 1
        own = zip(runs, values, strict=True)
        yield Rates(row, decay, step, [(a, b, value, decays[a]) for (a, b), value in own])


def _batches(n: int, size: int, *, drop_last: bool) -> list[tuple[int, int]]:
    """First and last position of each batch; a partial one goes only if a full one stays."""
    cuts = [(first, min(first + size, n)) for first in range(0, n, size)]
    return cuts[:-1] if drop_last and n >= size and n % size else cuts
