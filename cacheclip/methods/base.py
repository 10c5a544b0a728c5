"""The contract of every method.

A method is pure: its constructor stores the settings that change shapes and nothing is learned on
it. What a run learned is `params`, a dict of tensors with a leading axis V of variants, and
`logits(params, query)` is a function of those alone: a bundle is params and settings, no more.

    ClosedForm   solve(task) -> params
    Trained      init(task, random) -> params, loss(params, batch) -> [V]; the loop is the engine's;
                 optional grads(params, batch), the gradients of that loss without autograd, and
                 data, order, per_epoch and moves: what the loop reads, in which order, how it steps
    Online       beside one of them: see(state, query) answers one picture after the other

Each may give search(params, query, labels): settings found on validation pictures after the fit;
and head(params, task): what `logits` reads, made of what was learned, once all of it is.

The folder is the registry: the file `tip_adapter.py` holds the one class of `tip-adapter`.
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cacheclip.errors import UsageError, instead
from cacheclip.kernels.weight_grad_update import MOMENTS, Outer
from cacheclip.methods import names as names
from cacheclip.task import Batch, Generators, Query, Task

Params = dict[str, Tensor]
Value = float | int | str
Settings = dict[str, Value]

SEARCH = "search"  # the value of a setting that `Method.search` finds

STEP_WORDS = {"optimizer": tuple(MOMENTS), "schedule": ("constant", "cosine", "dassl")}
PRECISIONS = ("auto", "fp32", "bf16")
STEP_BOUNDS = {
    "lr": (0.0, inf),
    "epochs": (1, 10**6),
    "batch_size": (1, 10**9),
    "weight_decay": (0.0, inf),
}


@dataclass(frozen=True)
class Setting:
    """One setting of a method: all that is said of it, in one line.

    Attributes:
        default: the constant.
        low: least number that it may be.
        high: greatest.
        grid: what a selecting policy tries, from the nearest to zero-shot outwards. It holds the
            constant, and zero-shot where the method has it.
        words: what it may be: all values where the default is a word, and beside numbers what a
            number may be instead, `search` or `learned`; then the default is what the run starts
            from. Variants of the same word share a stack.
        shape: whether its numbers change shapes or steps: variants that share it share a stack, the
            others' numbers are handed over as one [V] tensor.
        power: the constant is that of logit scale s = 100, and becomes (s / 100)^power times that.
        zero_shot: which end of it leads to zero-shot, or holds back most.
        search: least and greatest number that a search looks at.
        unsaid: the first word holds unasked and stands in no settings, so that a row that does
            without it is the row it always was.
    """

    default: Value
    low: float = -inf
    high: float = inf
    grid: tuple[Value, ...] = ()
    words: tuple[str, ...] = ()
    shape: bool = False
    power: float = 0.0
    zero_shot: Literal["low", "high"] | None = None
    search: tuple[float, float] | None = None
    unsaid: bool = False


def steps(**own: Value) -> dict[str, Setting]:
    """The settings that all trained methods have, with a recipe's values."""
    table = {
        "lr": Setting(1e-3, low=0.0),
        "epochs": Setting(100, low=1, high=10**6, shape=True),
        "batch_size": Setting(256, low=1, high=10**9, shape=True),
        "optimizer": Setting("adamw", words=STEP_WORDS["optimizer"], shape=True),
        "weight_decay": Setting(0.0, low=0.0),
        "schedule": Setting("cosine", words=STEP_WORDS["schedule"], shape=True),
    }
    return table | {name: replace(table[name], default=value) for name, value in own.items()}


@dataclass(frozen=True)
class Reads:
    """What a method reads, known to the instance: its static settings decide.

    Attributes:
        support: layers of the support pictures, as `Query` names them.
        query: layers of the pictures that it answers for.
        text: text ensembles, as `Task.class_text` names them.
        encoder: frozen parts of the encoder that know no class, as `Task.encoder` names them.
        query_views: whether it answers for a picture from several views of it.
    """

    support: tuple[str, ...] = ("image",)
    query: tuple[str, ...] = ("image",)
    text: tuple[str, ...] = ()
    encoder: tuple[str, ...] = ()
    query_views: bool = False


@dataclass(frozen=True)
class Move:
    """How the steps of one param differ from those of its method.

    Attributes:
        lr: [V], what multiplies the learning rate; None for 1.
        momentum: of SGD; None for the method's.
        every: it moves at each `every`-th step alone; its moments take in all of them.
        nesterov: whether SGD looks ahead.
    """

    lr: Tensor | None = None
    momentum: float | None = None
    every: int = 1
    nesterov: bool = False


@dataclass(frozen=True)
class Found:
    """What a search tried on n validation pictures, the method's constants among it.

    Attributes:
        settings: setting -> [V, T] values tried.
        hits: [V, T] int64, pictures that each variant gets right there.
        log_p: [V, T, n] log probability of the labels, as `heads.temperature.label_log_p` has it;
            -inf for a point that hits alone rule out.
    """

    settings: Mapping[str, Tensor]
    hits: Tensor
    log_p: Tensor


class Method(ABC):
    """One way to turn a support set into logits.

    Class attributes:
        paper: arXiv number, or where the method comes from.
        version: raised whenever results change.
        needs: layers that it reads, as `Query` names them.
        text: text ensembles that it reads, as `task.class_text` names them.
        learns: what a fit learns from: `support`, then seeds and shots count, or `nothing`.
        setting: `inductive`: a logit depends on its own picture; `transductive`: on the whole query
            set; `online`: on the pictures before it in the stream.
        transfers: whether `head` can serve classes that were not learned from.
        equivariant: whether classes in another order give the same columns in that order; not
            where something is drawn for each class.
        table: setting -> its default, domain, grid: the one place that declares it.
        static: settings that change shapes or steps; variants that share them share a stack.
        vector: settings that are one number a variant, handed over as [V] tensors.
        words: the words that a setting may be: all values of one whose default is a word, and
            beside numbers what a number may be instead, `search` or `learned`. Variants of the
            same word share a stack; the constructor is given it, the tensor holds the default.
        labels: settings of how unequal classes count (`heads/class_balance.py`), each with its
            words. The first word is what holds unasked and stands in no settings, so that a row
            that does without it is the row it always was; the engine acts on the others.
        defaults: the `fixed` constants.
        recipes: recipe -> settings in which it differs from `defaults`, for a method whose paper
            and released code disagree; the first is what runs unasked.
        bounds: least and greatest value of the settings that have one.
        grid: what a selecting policy tries, the first name varies slowest. It holds the constant,
            and zero-shot where the method has it.
        searches: least and greatest value that a search looks at.
        off: the setting under which the method is zero-shot, where there is one.
        zero_shot: the settings that lead to zero-shot (or hold back most), and which end does.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("image",)
    text: ClassVar[tuple[str, ...]] = ()
    learns: ClassVar[Literal["support", "nothing"]] = "support"
    setting: ClassVar[Literal["inductive", "transductive", "online"]] = "inductive"
    transfers: ClassVar[bool] = False
    equivariant: ClassVar[bool] = True
    table: ClassVar[Mapping[str, Setting]] = {}
    static: ClassVar[tuple[str, ...]] = ()
    vector: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    labels: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, Value]] = {}
    recipes: ClassVar[Mapping[str, Mapping[str, Value]]] = {}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    grid: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    searches: ClassVar[Mapping[str, tuple[float, float]]] = {}
    off: ClassVar[Mapping[str, Value]] = {}
    zero_shot: ClassVar[Mapping[str, Literal["low", "high"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "table" in cls.__dict__:
            cls._derive()
        if inspect.isabstract(cls) or ABC in cls.__bases__:
            return
        cls.name = cls.__module__.rpartition(".")[2].replace("_", "-")
        known = {*cls.static, *cls.vector}
        named = {*cls.grid, *cls.bounds, *cls.words, *cls.zero_shot, *cls.off}.union(
            *cls.recipes.values()
        )
        if not cls.paper or set(cls.defaults) != known or not named <= known:
            where = "paper, defaults, grid, bounds, words, zero_shot, recipes"
            raise TypeError(f"{cls.__name__}: {where}: unknown setting")

    def __init__(self, **static: Value) -> None:
        self.settings: Settings = {name: self.defaults[name] for name in self.static} | static

    @classmethod
    def _derive(cls) -> None:
        said = {name: own for name, own in cls.table.items() if not own.unsaid}
        cls.static = tuple(n for n, s in said.items() if s.shape or isinstance(s.default, str))
        cls.vector = tuple(name for name in said if name not in cls.static)
        cls.defaults = {name: own.default for name, own in said.items()}
        cls.words = {name: own.words for name, own in said.items() if own.words}
        cls.labels = {name: own.words for name, own in cls.table.items() if own.unsaid}
        domain = {name: (own.low, own.high) for name, own in said.items()}
        cls.bounds = {name: ends for name, ends in domain.items() if ends != (-inf, inf)}
        cls.grid = {name: own.grid for name, own in said.items() if own.grid}
        cls.searches = {name: own.search for name, own in said.items() if own.search}
        cls.zero_shot = {name: own.zero_shot for name, own in said.items() if own.zero_shot}

    @property
    def reads(self) -> Reads:
        """What a fit and its answers read."""
        return Reads(support=self.needs, query=self.needs, text=self.text)

    @classmethod
    def recipe(cls, asked: str | None = None) -> str | None:
        """The recipe that runs where this one is asked for; None where the method has none."""
        return asked if asked in cls.recipes else next(iter(cls.recipes), None)

    @classmethod
    def fixed(
        cls,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
        given: Mapping[str, Value] = MappingProxyType({}),
    ) -> Settings:
        """All settings where some are given: the rest are the method's constants.

        Args:
            shots: support images a class.
            logit_scale: the encoder's exp(logit_scale).
            recipe: one that the method does not know changes nothing.
            given: settings that are chosen already; constants may depend on them.
        """
        asked = {n: v for n, v in given.items() if n not in cls.labels or v != cls.labels[n][0]}
        return {**cls.defaults, **cls.recipes.get(recipe or "", {}), **asked}

    @abstractmethod
    def logits(self, params: Params, query: Query) -> Tensor:
        """Class scores [V, n, C] of query pictures [n, ...] or [V, n, ...]."""

    def head(self, params: Params, task: Task) -> Params:
        """What `logits` reads, for the classes of `task`: those learned from, or others.

        It comes last, after `search`, whose numbers are in `params` then.
        """
        return params

    def learned(self, params: Params) -> dict[str, float]:
        """What one run [1, ...] found for settings given as `learned`, by name."""
        return {}

    @property
    def searched(self) -> tuple[str, ...]:
        """The settings that `search` is to find."""
        return tuple(name for name, value in self.settings.items() if value == SEARCH)

    def search(self, params: Params, query: Query, labels: Tensor) -> Found | None:
        """Settings tried on validation pictures [n] or [V, n]; None where no setting is `search`.

        Their values stand in `params` under their names, and those of the chosen point replace
        them.
        """
        return None


class ClosedForm(Method, ABC):
    """A method whose params come out of one computation."""

    @abstractmethod
    def solve(self, task: Task) -> Params:
        """The params of every variant."""


class Online(Method, ABC):
    """A method whose answer depends on the pictures before: a base beside `ClosedForm`, `Trained`.

    Its params are the state before the first picture.
    """

    setting: ClassVar[Literal["inductive", "transductive", "online"]] = "online"

    @abstractmethod
    def see(self, state: Params, query: Query) -> Tensor:
        """Logits [V, 1, C] of one picture; `state`, the caller's own, may change in place."""

    def logits(self, params: Params, query: Query) -> Tensor:
        """The stream [V, n, C] from its start, in the order of the query."""
        state = {name: x.clone() for name, x in params.items()}
        return torch.cat([self.see(state, query.part(k, k + 1)) for k in range(len(query))], 1)


class Trained(Method, ABC):
    """A method that gradient steps fit.

    Its settings of the steps are always called lr, epochs, batch_size, optimizer, weight_decay and
    schedule.

    Class attributes:
        drop_last: skip an epoch's partial batch where a full one exists.
        eps: what Adam adds to its denominator.
        fused: whether `grads` gives the gradients by hand.
    """

    drop_last: ClassVar[bool] = False
    eps: ClassVar[float] = 1e-8
    fused: ClassVar[bool] = True

    @property
    @abstractmethod
    def trainable(self) -> tuple[str, ...]:
        """Names of the params that move."""

    def step_numbers(self, task: Task) -> int:
        """Numbers that a step of one variant writes beside its gradients, for the memory plan."""
        batch = min(task.rows.shape[1], int(self.settings["batch_size"]))
        row = sum(x.shape[1:].numel() for x in task.pool.values())
        return batch * (8 * row + 6 * task.n_classes)

    def half(self, task: Task) -> bool:
        """Whether `grads` may be given 16-bit features; then there is a static `precision`."""
        return False

    def data(self, task: Task) -> Task:
        """What the steps read, where that is not the support pictures alone."""
        return task

    def per_epoch(self, task: Task) -> int:
        """Steps of an epoch."""
        n, size = task.rows.shape[1], int(self.settings["batch_size"])
        return max(1, n // size) if self.drop_last else -(-n // size)

    def order(self, task: Task, random: Generators) -> Iterator[Tensor]:
        """What each step sees, without end: positions [V, B] in each variant's rows."""
        n, size = task.rows.shape[1], int(self.settings["batch_size"])
        while True:
            shuffled = random.permutations(n)
            for k in range(self.per_epoch(task)):
                yield shuffled[:, k * size : min(n, (k + 1) * size)]

    def moves(self, task: Task) -> Mapping[str, Move]:
        """How the steps of a param differ from the method's; those not named do not."""
        return {}

    @abstractmethod
    def init(self, task: Task, random: Generators) -> Params:
        """The params of every variant before the first step."""

    @abstractmethod
    def loss(self, params: Params, batch: Batch) -> Tensor:
        """The mean loss of each variant's batch: [V]."""

    def grads(self, params: Params, batch: Batch) -> Mapping[str, Tensor | Outer] | None:
        """Gradients of the sum of `loss` by hand, for every trainable; None leaves it to autograd.

        An `Outer` stands for a weight's gradient that is never formed.
        """
        return None


def get(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        UsageError: there is no such method.
    """
    if name not in names():
        raise UsageError(
            f"no method {name!r}",
            where="the methods of this version",
            fix=instead(name, names(), see="cacheclip methods"),
        )
    module = importlib.import_module(f"cacheclip.methods.{name.replace('-', '_')}")
    found = [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    method: type[Method] = found[0]
    return method
