"""The one training loop: all variants of a stack step together."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from cacheclip.engine.precision import training_dtype
from cacheclip.engine.schedule import learning_rates
from cacheclip.engine.watch import STOPPED, Watch
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import (
    Optimizer,
    Outer,
    Rates,
    Rule,
    neighbours,
    weight_grad_update,
)
from cacheclip.methods.base import Move, Params, Trained
from cacheclip.task import Batch, Generators, Task


def train(
    method: Trained,
    task: Task,
    seeds: Sequence[int],
    progress: Callable[[float], None],
    held: Task | None = None,
    last: int | None = None,
) -> Params:
    """Fit every variant of the task for the method's epochs and give the params of the last step.

    Where pictures are held out, those of the epoch after which they were likeliest, and which it
    was under `STOPPED`.

    Args:
        method: holds the static settings (epochs, batch_size, optimizer, schedule).
        task: V variants; its settings hold lr and weight_decay.
        seeds: one a variant, for the start, the order of the data and what steps draw.
        progress: called with the share of the epochs done.
        held: the pictures held out from each variant.
        last: the epochs to go, where that is known; the schedule is that of all.

    Returns:
        Tensors with leading V, without gradients.
    """
    watch = Watch(method, task, held) if held is not None else None
    task = method.data(task)
    epochs, per_epoch = int(method.settings["epochs"]), method.per_epoch(task)
    run = steps(method, task, seeds)
    for epoch in range(epochs if last is None else last):
        for _ in range(per_epoch):
            params = next(run)
        if watch is not None:
            watch.look(params)
        progress((epoch + 1) / epochs)
    best = watch.best | {STOPPED: watch.stopped} if watch is not None else {}
    return {name: x.detach() for name, x in params.items()} | best


def steps(method: Trained, task: Task, seeds: Sequence[int]) -> Iterator[Params]:
    """The params after each step of a run; the next step changes them in place.

    The gradient is that of the sum of the losses over V: exact for each variant, since no variant's
    loss reads another's params.

    Args:
        method: as `train` takes it.
        task: what the method's `data` gave.
        seeds: one a variant.
    """
    params = method.init(task, Generators(seeds, "init", task.device, task.dtype))
    moving = {  # copies: what a param starts from belongs to the task, and steps change in place
        name: params[name].clone(memory_format=torch.contiguous_format).requires_grad_()
        for name in method.trainable
    }
    params = params | moving
    gaits = _gaits(method, task, moving)
    work: defaultdict[str, Workspace] = defaultdict(Workspace)
    dtype = training_dtype(method, task)
    task = replace(task, pool={name: x.to(dtype) for name, x in task.pool.items()})
    order = method.order(task, Generators(seeds, "order", task.device, task.dtype))
    noise = Generators(seeds, "noise", task.device, task.dtype)
    epochs, per_epoch = int(method.settings["epochs"]), method.per_epoch(task)
    for step in range(epochs * per_epoch):
        batch = task.at(next(order), work, noise, step=step, epoch=step // per_epoch)
        gradients = _gradients(method, params, moving, batch)
        with torch.no_grad():
            for gait in gaits:
                now = next(gait.rates)
                for name, state in gait.states.items():
                    own = gradients[name], state
                    weight_grad_update(moving[name], *own, gait.rule, now, work=work["update"])
        yield params


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


@dataclass(frozen=True)
class _Gait:
    """Params that step alike: their moments by name, and the rates of each step to come."""

    rule: Rule
    states: Mapping[str, tuple[Tensor, ...]]
    rates: Iterator[Rates]


def _gaits(method: Trained, task: Task, moving: Params) -> list[_Gait]:
    """One for all params, and one for each `Move` of some of them."""
    own, plain = method.moves(task), Move()
    moves = {id(move): move for move in (own.get(name, plain) for name in moving)}
    found = []
    for move in moves.values():
        optimizer = cast(Optimizer, method.settings["optimizer"])
        rule = Rule(optimizer, eps=method.eps, nesterov=move.nesterov)
        if move.momentum is not None:
            rule = replace(rule, momentum=move.momentum)
        states = {n: rule.state(x) for n, x in moving.items() if own.get(n, plain) is move}
        found.append(_Gait(rule, states, _rates(method, task, move)))
    return found


def _rates(method: Trained, task: Task, move: Move) -> Iterator[Rates]:
    """The rates of each step; which variants share theirs is the same at every one."""
    lr, decay = task.settings["lr"], task.settings["weight_decay"]
    epochs, per_epoch = int(method.settings["epochs"]), method.per_epoch(task)
    table = learning_rates(str(method.settings["schedule"]), lr, epochs, per_epoch)  # [steps, V]
    if move.lr is not None:
        lr, table = lr * move.lr, table * move.lr
    if move.every > 1:
        counts = torch.arange(1, len(table) + 1, device=table.device)[:, None]
        table = table.where(counts % move.every == 0, 0.0)
    decays = decay.tolist()
    runs = neighbours(list(zip(lr.tolist(), decays, strict=True)))
    step = torch.zeros((), device=task.device)
    for row, values in zip(table, table[:, [a for a, _ in runs]].tolist(), strict=True):
        step += 1
        own = zip(runs, values, strict=True)
        yield Rates(row, decay, step, [(a, b, value, decays[a]) for (a, b), value in own])
