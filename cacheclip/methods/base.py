"""The contract of every method.

A method is pure: its constructor stores the settings that change shapes and nothing is learned on
it. What a run learned is `params`, a dict of tensors with a leading axis V of variants, and
`logits(params, query)` is a function of those alone: a bundle is params and settings, no more.

    ClosedForm   solve(task) -> params
    Trained      init(task, random) -> params, loss(params, batch) -> [V]; the loop is the engine's;
                 optional grads(params, batch), the gradients of that loss without autograd, and
                 data, order, per_epoch and moves: what the loop reads, in which order, how it steps
    Online       beside one of them: see(state, query) answers one picture after the other

Each may give search(params, query, labels, folds): settings found on held-out pictures after the
fit; and head(params, task): what `logits` reads, made of what was learned, once all of it is.

The folder is the registry: `tip_adapter.py` holds the one class of `tip-adapter`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods import METHODS, names as names
from cacheclip.methods.settings import (
    CLASS_WEIGHT as CLASS_WEIGHT,
    LOGIT_SCALE as LOGIT_SCALE,
    PRECISIONS as PRECISIONS,
    PRIOR as PRIOR,
    PULL as PULL,
    SEARCH as SEARCH,
    STEP_WORDS as STEP_WORDS,
    TEXT_NORM as TEXT_NORM,
    VIEWS as VIEWS,
    Setting as Setting,
    Settings as Settings,
    Value as Value,
    from_zero as from_zero,
    norm_counts as norm_counts,
    pull_by_shots as pull_by_shots,
    steps as steps,
    wrong_in,
)
from cacheclip.task import Batch, Generators, Query, Task

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Reads:
    """What a method reads, known to the instance: its static settings decide.

    Attributes:
        support: layers of the support pictures, as `Query` names them.
        query: layers of the pictures that it answers for.
        text: text ensembles, as `Task.text` names them.
        encoder: frozen parts of the encoder that know no class, as `Task.encoder` names them.
        query_encoder: those of them that its answers take too, not the fit alone.
    """

    support: tuple[str, ...] = ("image",)
    query: tuple[str, ...] = ("image",)
    text: tuple[str, ...] = ()
    encoder: tuple[str, ...] = ()
    query_encoder: tuple[str, ...] = ()

    @property
    def raw_text(self) -> bool:
        """Whether it reads class text that keeps its norm."""
        return any(ensemble.endswith("raw-mean") for ensemble in self.text)


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
        learns: from `support` pictures, from the `held-out` ones of its search, or `nothing`.
        setting: `inductive`: a logit depends on its own picture; `transductive`: on the whole query
            set; `online`: on the pictures before it in the stream.
        transfers: whether `head` can serve classes that were not learned from.
        reads_new_shots: whether it then reads support pictures of those, as well as their text.
        equivariant: whether columns follow the order of the classes; not where each draws.
        table: setting -> its default, domain, grid: the one place that declares it.
        recipes: recipe -> what it sets, where paper and release differ; the first runs unasked.
        transferred: shots -> settings that the authors carry over from ImageNet, where they do.
        off: the setting under which the method is zero-shot, where there is one.
        reads: what a fit and its answers read; a property where static settings decide it.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    learns: ClassVar[Literal["support", "held-out", "nothing"]] = "support"
    setting: ClassVar[Literal["inductive", "transductive", "online"]] = "inductive"
    transfers: ClassVar[bool] = False
    reads_new_shots: ClassVar[bool] = False
    equivariant: ClassVar[bool] = True
    table: ClassVar[Mapping[str, Setting]] = {}
    recipes: ClassVar[Mapping[str, Mapping[str, Value]]] = {}
    transferred: ClassVar[Mapping[int, Mapping[str, Value]]] = {}
    off: ClassVar[Mapping[str, Value]] = {}

    @property
    def reads(self) -> Reads:
        """Pictures' features alone."""
        return Reads()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if inspect.isabstract(cls) or ABC in cls.__bases__:
            return
        cls.name = cls.__module__.rpartition(".")[2].replace("_", "-")
        named = {*cls.off}.union(*cls.recipes.values(), *cls.transferred.values())
        if wrong := wrong_in(cls.table, named) if cls.paper else "no paper":
            raise TypeError(f"{cls.__name__}: {wrong}")

    def __init__(self, **static: Value) -> None:
        said = {name: own for name, own in self.table.items() if own.static and not own.unsaid}
        self.settings: Settings = {name: own.default for name, own in said.items()} | static

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The method under all settings of a variant."""
        return cls(**cls.static_of(settings))

    @classmethod
    def static_of(cls, settings: Settings) -> Settings:
        """What the variants of a stack share: shapes, words and all that is said by a word."""
        static = {name for name, own in cls.table.items() if own.static}
        return {n: v for n, v in settings.items() if n in static or isinstance(v, str)}

    @classmethod
    def numbers_of(
        cls,
        variants: Sequence[Settings],
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The settings that differ within a stack, each [V]; a word's place holds the default."""
        return {
            name: torch.tensor(
                [own.default if isinstance(s[name], str) else s[name] for s in variants],
                device=device,
                dtype=dtype,
            )
            for name, own in cls.table.items()
            if not own.static
        }

    @classmethod
    def recipe(cls, asked: str | None = None) -> str | None:
        """The recipe that runs where this one is asked for; None where the method has none."""
        return asked if asked in cls.recipes else next(iter(cls.recipes), None)

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """The constants that depend on the support images a class."""
        return {}

    @classmethod
    def fixed(
        cls,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
        given: Mapping[str, Value] = MappingProxyType({}),
        text_norm: float = TEXT_NORM,
    ) -> Settings:
        """All settings where some are given: the rest are the method's constants.

        Args:
            shots: support images a class.
            logit_scale: the encoder's exp(logit_scale).
            recipe: one that the method does not know changes nothing.
            given: settings that are chosen already; constants may depend on them.
            text_norm: mean norm of the classes' raw text.
        """
        unsaid = {name: own.default for name, own in cls.table.items() if own.unsaid}
        constants = {name: own.default for name, own in cls.table.items() if name not in unsaid}
        own = constants | cls.by_shots(shots) | dict(cls.recipes.get(recipe or "", {}))
        asked = {name: value for name, value in given.items() if unsaid.get(name) != value}
        return cls.rescaled(own | asked, set(own) - set(given), logit_scale, text_norm)

    @classmethod
    def rescaled(
        cls,
        settings: Settings,
        names: Collection[str],
        logit_scale: float,
        text_norm: float = TEXT_NORM,
    ) -> Settings:
        """The settings, some of them brought from the published logit scale to another.

        A step of SGD moves the logits by lr s^2, one of Adam by lr s, and a penalty p holds them
        back by p / s^2: these products are kept. Where text of norm c is what steps move, a step
        turns it by 1 / c less, so that s / c takes the place of s; raw text of any CLIP counts as
        the published one, so that there the released constants hold to the digit.

        Args:
            settings: all of a variant.
            names: those that are constants or of the grid, and so of scale 100 and norm 10.
            logit_scale: s.
            text_norm: c.
        """
        powers = {name: cls.table[name].power for name in names if cls.table[name].power}
        unit = LOGIT_SCALE / logit_scale
        if powers and norm_counts(text_norm) and cls.of(settings).reads.raw_text:
            unit *= text_norm / TEXT_NORM
        here = dict(settings)
        for name, power in powers.items():
            value = settings[name]
            twice = 2 if name == "lr" and settings["optimizer"] == "sgd" else 1
            if not isinstance(value, str):
                here[name] = float(f"{value * unit ** -(twice * power):.4g}")
        return here

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
    def views(self) -> int:
        """Of each support picture that it reads; other pictures are read as they are."""
        return int(self.settings.get("views", 1))

    @property
    def searched(self) -> tuple[str, ...]:
        """The settings that `search` is to find; when to stop is found on the way."""
        return tuple(n for n, value in self.settings.items() if value == SEARCH and n != "stop")

    @property
    def stops(self) -> bool:
        """Whether held-out pictures say which epoch counts."""
        return self.settings.get("stop") == SEARCH

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Settings tried on held-out pictures [n] or [V, n]; None where no setting is `search`.

        Their values stand in `params` under their names, and those of the chosen point replace
        them. The query of a transductive method goes on beyond the n pictures that count. Of F
        `folds`, neighbouring variants that learned from parts of one support set under the same
        settings, each looks at its own n pictures, and they are judged as one that answers for F n:
        `Found` is of V / F.
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
        """The stream [V, n, C] in the order of the query."""
        return self.stream(params, (query.part(k, k + 1) for k in range(len(query))))

    def stream(self, params: Params, pictures: Iterable[Query]) -> Tensor:
        """Logits [V, n, C] of pictures as they come, from the start of the stream."""
        state = {name: x.clone() for name, x in params.items()}
        return torch.cat([self.see(state, one) for one in pictures], 1)


class Trained(Method, ABC):
    """A method that gradient steps fit; the settings of its steps are those of `settings.steps`.

    Class attributes:
        size: how many numbers move under the defaults, of C classes, N support pictures, features
            of D numbers, D2 by a second encoder, E before the projection, and d in the text tower,
            whose context has M words; other names are settings, or said in the class.
        drop_last: skip an epoch's partial batch where a full one exists.
        eps: what Adam adds to its denominator.
        fused: whether `grads` gives the gradients by hand.
    """

    size: ClassVar[str] = ""
    drop_last: ClassVar[bool] = False
    eps: ClassVar[float] = 1e-8
    fused: ClassVar[bool] = True

    @property
    @abstractmethod
    def trainable(self) -> tuple[str, ...]:
        """Names of the params that move."""

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
    module = METHODS.file(name, where="the methods of this version")
    own = (c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__)
    method: type[Method] = next(c for c in own if inspect.isclass(c) and issubclass(c, Method))
    return method
