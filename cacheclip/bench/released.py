"""The trained methods as one writes them for one run: a module, autograd, torch.optim, a loop.

A module's parameters have the names of what its method trains; the rest are tensors it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer

from cacheclip.engine.schedule import learning_rates
from cacheclip.methods.base import Move, Params, Trained
from cacheclip.task import Generators, Task


class Module(nn.Module):
    """A head of one run, from the params [1, ...] that its method starts with."""

    weight: Tensor
    bias: Tensor
    text: Tensor
    alpha: Tensor
    beta: Tensor
    logit_scale: Tensor
    pull: Tensor
    residual: Tensor
    map: Tensor
    identity: Tensor
    projection: Tensor
    projection_bias: Tensor
    before: Tensor
    strength: Tensor
    keys: Tensor
    labels: Tensor
    values: Tensor
    channels: Tensor

    def __init__(self, start: Params, trained: tuple[str, ...]) -> None:
        super().__init__()
        for name, x in start.items():
            own = x[0].clone()
            setattr(self, name, nn.Parameter(own) if name in trained else own)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]."""
        raise NotImplementedError

    def penalty(self) -> Tensor | float:
        """What is added to the cross-entropy."""
        return 0.0


def _unit(x: Tensor) -> Tensor:
    norm: Tensor = x.norm(dim=-1, keepdim=True)
    return x / norm


class Probe(Module):
    """ZS-LP; with a pull CLAP."""

    def forward(self, x: Tensor) -> Tensor:
        """Cosines to free rows."""
        return self.logit_scale * x @ _unit(self.weight).t()


class Held(Probe):
    """CLAP."""

    def penalty(self) -> Tensor:
        """The mean over classes of what each is held back by."""
        away = (self.weight - self.text).pow(2).sum(-1)
        return (self.pull * away).mean()


class Residual(Module):
    """TaskRes."""

    def forward(self, x: Tensor) -> Tensor:
        """Cosines to text and residual."""
        return self.logit_scale * x @ _unit(self.text + self.alpha * self.residual).t()


class Map(Module):
    """The linear adapter."""

    def forward(self, x: Tensor) -> Tensor:
        """Cosines of mapped pictures."""
        return self.logit_scale * _unit(x @ self.map) @ self.weight.t()

    def penalty(self) -> Tensor:
        """How far the map is from the identity."""
        return self.strength * (self.map - self.identity).pow(2).sum()


class Projection(Module):
    """ProLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Cosines of projected pictures."""
        z = _unit(x @ self.projection + self.projection_bias)
        return self.logit_scale * z @ self.weight.t()

    def penalty(self) -> Tensor:
        """How far the projection is from the encoder's."""
        return self.strength * (self.projection - self.before).pow(2).sum()


class TextProjection(Module):
    """ProLIP's text twin."""

    def forward(self, x: Tensor) -> Tensor:
        """Cosines to projected text."""
        return self.logit_scale * x @ _unit(self.text @ self.projection).t()

    def penalty(self) -> Tensor:
        """How far the projection is from the encoder's."""
        return self.strength * (self.projection - self.before).pow(2).sum()


class ScaledText(Module):
    """LP++."""

    def forward(self, x: Tensor) -> Tensor:
        """A probe beside scaled class text."""
        return x @ self.weight.t() + self.bias + self.alpha * (x @ self.text.t())


class Rows(Module):
    """Cross-modal's linear head."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows that are not normalised again."""
        return self.logit_scale * x @ self.weight.t()


class Keys(Module):
    """Tip-Adapter-F."""

    def __init__(self, start: Params, trained: tuple[str, ...]) -> None:
        super().__init__(start, trained)
        classes = len(start["weight"][0])
        self.votes = functional.one_hot(start["labels"][0], classes).to(start["keys"])

    def forward(self, x: Tensor) -> Tensor:
        """Zero-shot and what the keys say."""
        near = ((-1) * (self.beta - self.beta * (x @ self.keys.t()))).exp()
        return self.logit_scale * x @ self.weight.t() + self.alpha * (near @ self.votes)


class Channels(Keys):
    """APE-T."""

    def forward(self, x: Tensor) -> Tensor:
        """Text and keys moved in some channels, keys weighed."""
        shift = torch.zeros_like(self.weight).index_add(1, self.channels, self.residual)
        keys = self.keys + shift[self.labels]
        near = ((-1) * (self.beta - self.beta * (x @ keys.t()))).exp()
        votes = near @ (self.values[:, None] * self.votes)
        return self.logit_scale * x @ (self.weight + shift).t() + self.alpha * votes


MODULES: Mapping[str, type[Module]] = {
    "zs-lp": Probe,
    "clap": Held,
    "task-res": Residual,
    "linear-adapter": Map,
    "prolip": Projection,
    "prolip-text": TextProjection,
    "lp-pp": ScaledText,
    "cross-modal": Rows,
    "tip-adapter-f": Keys,
    "ape-t": Channels,
}


def train(method: Trained, task: Task, seed: int) -> Params:
    """What one run, a task of one variant, ends with, each param [1, ...]: the usual loop."""
    start = method.init(task, Generators([seed], "init", task.device, task.dtype))
    model = MODULES[method.name](start, method.trainable)
    gaits = _gaits(method, model, task)
    task = method.data(task)
    features = next(iter(task.pool.values()))[task.rows[0]]
    labels = task.labels[0]
    order = method.order(task, Generators([seed], "order", task.device, task.dtype))
    for step, rate in enumerate(_rates(method, task), start=1):
        index = next(order)[0]
        loss = functional.cross_entropy(model(features[index]), labels[index]) + model.penalty()
        torch.autograd.backward(loss)
        for gait in gaits:
            gait.step(step, rate)
    return {name: getattr(model, name).detach()[None] for name in method.trainable}


def _rates(method: Trained, task: Task) -> list[float]:
    """The learning rate of each step."""
    epochs, per_epoch = int(method.settings["epochs"]), method.per_epoch(task)
    schedule = str(method.settings["schedule"])
    rates: list[float] = learning_rates(schedule, task.settings["lr"], epochs, per_epoch)[
        :, 0
    ].tolist()
    return rates


@dataclass(frozen=True)
class _Gait:
    """An optimizer, what multiplies its rate, and how many steps' gradients it takes at once."""

    optimizer: Optimizer
    times: float = 1.0
    every: int = 1

    def step(self, step: int, rate: float) -> None:
        """After the gradients of the step, counted from 1."""
        if step % self.every == 0:
            self.optimizer.param_groups[0]["lr"] = self.times * rate
            self.optimizer.step()
        if self.every == 1:  # LP++ never sets that of its scales to zero
            self.optimizer.zero_grad()


def _gaits(method: Trained, model: Module, task: Task) -> list[_Gait]:
    """The recipe's optimizer; LP++ has one for its probe and another for its scales."""
    decay = float(task.settings["weight_decay"][0])
    weights = dict(model.named_parameters())
    kind = str(method.settings["optimizer"])
    if kind != "sgd":
        make = {"adam": Adam, "adamw": AdamW}[kind]
        return [_Gait(make(weights.values(), eps=method.eps, weight_decay=decay))]
    moves = method.moves(task)
    if not moves:
        return [_Gait(SGD(weights.values(), lr=1.0, momentum=0.9, weight_decay=decay))]
    scales, probe = weights.pop("alpha"), moves["weight"]
    of_probe = SGD(weights.values(), lr=1.0, momentum=0.9, weight_decay=decay)
    of_scales = SGD([scales], lr=1.0, weight_decay=decay)
    return [
        _Gait(of_probe, _of(probe)),
        _Gait(of_scales, _of(moves["alpha"]), moves["alpha"].every),
    ]


def _of(move: Move) -> float:
    return 1.0 if move.lr is None else float(move.lr[0])
