"""The contract of every method.

A method is pure: its constructor stores the settings that change shapes and nothing is learned on
it. What a run learned is `params`, a dict of tensors with a leading axis V of variants, and
`logits(params, query)` is a function of those alone: a bundle is params and settings, no more.

    ClosedForm   solve(task) -> params
    Trained      init(task, random) -> params, loss(params, batch) -> [V]; the loop is the engine's;
                 optional grads(params, batch), the gradients of that loss without autograd

Either may give search(params, query, labels): settings found on validation pictures after the fit.

The folder is the registry: the file `tip_adapter.py` holds the one class of `tip-adapter`.
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Any, ClassVar, Literal

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
        draws: whether it reads support pictures at all.
        setting: `inductive`: a logit depends on its own picture; `transductive`: on the whole query
            set; `online`: on the pictures before it in the stream.
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
    draws: ClassVar[bool] = True
    setting: ClassVar[Literal["inductive", "transductive", "online"]] = "inductive"
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


class Trained(Method, ABC):
    """A method that gradient steps fit.

    Its settings of the steps are always called lr, epochs, batch_size, optimizer, weight_decay and
    schedule.

    Class attributes:
        drop_last: skip an epoch's partial batch where a full one exists.
        eps: what Adam adds to its denominator.
    """

    drop_last: ClassVar[bool] = False
    eps: ClassVar[float] = 1e-8

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
