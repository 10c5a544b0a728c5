"""The contract of a selection policy, and the look-up by file name.

A policy says which candidates a method has. They are compared by validation accuracy and nothing
else: nothing that a choice is handed holds a test label.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import ClassVar

from cacheclip.errors import UsageError, instead
from cacheclip.methods.base import Method, Settings, Value

Choices = Mapping[str, tuple[Value, ...]]


class Policy(ABC):
    """One way to choose; `selects` says whether candidates compete for one row."""

    name: ClassVar[str]
    selects: ClassVar[bool]

    @abstractmethod
    def axes(self, method: type[Method], choices: Choices) -> Choices:
        """Values of the settings that vary, where the user gave those of `choices`."""

    def candidates(
        self,
        method: type[Method],
        choices: Choices,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
    ) -> list[Settings]:
        """All settings to run: every combination of the axes with the method's constants.

        Numbers run upwards, which is from nearest to zero-shot outwards for every setting that has
        such a direction; words come after them in the order given. The first axis is slowest.
        """
        ordered = {name: _upwards(values) for name, values in self.axes(method, choices).items()}
        return [
            method.fixed(shots, logit_scale, recipe, dict(zip(ordered, values, strict=True)))
            for values in product(*ordered.values())
        ]


def first_best(val_hits: Sequence[int]) -> int:
    """Which candidate wins: the best, and of equals the one nearest to zero-shot.

    With one validation image a class ties are the norm, so a later candidate must be strictly
    better.
    """
    return max(range(len(val_hits)), key=lambda k: (val_hits[k], -k))


def _upwards(values: tuple[Value, ...]) -> tuple[Value, ...]:
    numbers = sorted(v for v in values if not isinstance(v, str))
    return (*numbers, *(v for v in values if isinstance(v, str)))


def names() -> list[str]:
    """All policies, as the command line spells them."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(f.stem.replace("_", "-") for f in files if f.stem not in ("base", "__init__"))


def get(name: str) -> Policy:
    """The policy of that name.

    Raises:
        UsageError: there is no such policy.
    """
    if name not in names():
        raise UsageError(
            f"no selection policy {name!r}", where="--select", fix=instead(name, names())
        )
    module = importlib.import_module(f"cacheclip.select.{name.replace('-', '_')}")
    policy: Policy = module.POLICY
    return policy
