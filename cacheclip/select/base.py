"""The contract of a selection policy, and the look-up by file name.

A policy says which candidates a method has, which labelled pictures it may look at, and which
candidate wins. Nothing that a choice is handed holds a test label, but for `test-oracle`.
"""

from collections.abc import Mapping
from itertools import product
from math import inf, log
from typing import ClassVar, Literal

from torch import Tensor

from cacheclip.errors import argument
from cacheclip.methods.base import LOGIT_SCALE, SEARCH, TEXT_NORM, Method, Settings, Value
from cacheclip.select import POLICIES as POLICIES, names as names

VERSION = 3  # raised whenever what policies choose changes
SAME = 1e-5  # of a mean log probability: less is rounding, or pictures that all are told right

Choices = Mapping[str, tuple[Value, ...]]


class Policy:
    """One way to choose.

    Class attributes:
        held: the labelled pictures that the choice looks at: none, then nothing competes and each
            candidate is a row of its own; few validation pictures, min(K, 4) a class; all that
            there are; folds of the support set, left out one after the other; or those of the
            test, which makes no result.
    """

    name: ClassVar[str]
    held: ClassVar[Literal["none", "few", "all", "folds", "test"]]

    @property
    def selects(self) -> bool:
        """Whether candidates compete for one row."""
        return self.held != "none"

    @property
    def reads_val(self) -> bool:
        """Whether it looks at validation pictures."""
        return self.held in ("few", "all")

    def knows(self, method: type[Method]) -> bool:
        """Whether it has anything to say of a method."""
        return True

    def axes(self, method: type[Method], choices: Choices) -> Choices:
        """Values of the settings that vary: the grid, where the user's values replace its own."""
        grid = {name: own.grid for name, own in method.table.items() if own.grid}
        return {**grid, **choices}

    def candidates(
        self,
        method: type[Method],
        choices: Choices,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
        text_norm: float = TEXT_NORM,
    ) -> list[Settings]:
        """All settings to run: every combination of the axes with the method's constants.

        A grid is taken as it is written, beside a constant that shots or recipe decide; the user's
        values, given in any order, from the nearest to zero-shot outwards, and words after numbers.
        The first axis is slowest.
        """
        published = method.fixed(shots, LOGIT_SCALE, recipe)
        ordered: dict[str, tuple[Value, ...]] = {}
        for name, values in self.axes(method, choices).items():
            own = method.table[name]
            if name in choices:
                ordered[name] = own.ordered(values)
            elif SEARCH in values or published[name] in values:  # a search looks at it as well
                ordered[name] = values
            else:
                ordered[name] = own.ordered((*values, published[name]))
        of_grid = set(ordered) - set(choices)
        made = []
        for values in product(*ordered.values()):
            given = dict(zip(ordered, values, strict=True))
            settings = method.fixed(shots, logit_scale, recipe, given, text_norm)
            made.append(method.rescaled(settings, of_grid, logit_scale, text_norm))
        return made

    def start(self, log_p: Tensor, constant: int, zero_shot: int | None = None) -> int:
        """What another candidate must beat: the constants, or zero-shot where that is likelier.

        Args:
            log_p: as `best` takes it, and the numbers too.
            constant: see there.
            zero_shot: see there.
        """
        mean = mean_log_p(log_p)
        likelier = zero_shot is not None and mean[zero_shot] > mean[constant]
        return zero_shot if zero_shot is not None and likelier and log_p.shape[1] > 1 else constant

    def best(self, log_p: Tensor, constant: int, zero_shot: int | None = None) -> int:
        """Which of P candidates wins on n pictures that none of them learned from.

        The constants, or zero-shot if that is likelier, stay unless another candidate makes the
        labels likelier by more than one standard error of the difference, picture by picture, and
        by more than rounding. Few pictures prove little, and then nothing is chosen on them; hits
        alone are blind to all but the boundary and tie too often.

        Args:
            log_p: [P, n] log probability of the labels, each candidate at its best temperature;
                those nearest to zero-shot first, which win ties.
            constant: the candidate that has the method's constants.
            zero_shot: the candidate that is zero-shot, where there is one.
        """
        front = int(mean_log_p(log_p).argmax())
        start = self.start(log_p, constant, zero_shot)
        gain = log_p[front] - log_p[start]
        if len(gain) < 2 or not gain.isfinite().all():
            return start if log_p[start].isfinite().all() else front
        error = gain.std() / len(gain) ** 0.5
        return front if float(gain.mean()) > max(float(error), SAME) else start


def mean_log_p(log_p: Tensor) -> Tensor:
    """The mean [P] of log p [P, n]; logits that overflowed win nothing."""
    return log_p.mean(1).nan_to_num(nan=-inf)


def distance(method: type[Method], settings: Settings, constant: Settings) -> tuple[float, ...]:
    """What orders settings from the nearest to zero-shot outwards.

    First by the settings that lead there, `Setting.zero_shot`, then by how far the others are from
    the method's constants, in octaves; a word counts as one.
    """
    towards, others = [], 0.0
    for name, own in method.table.items():
        value = settings.get(name, own.default)
        if own.zero_shot is None:
            others += _apart(value, constant.get(name, own.default))
        elif not isinstance(value, str):
            towards.append(float(value) if own.zero_shot == "low" else -float(value))
    return (*towards, others)


def _apart(value: Value, constant: Value) -> float:
    if value == constant:
        return 0.0
    if isinstance(value, str) or isinstance(constant, str) or value <= 0 or constant <= 0:
        return 1.0
    return abs(log(value / constant, 2))


def get(name: str) -> Policy:
    """The policy of that name.

    Raises:
        UsageError: there is no such policy.
    """
    policy: Policy = POLICIES.file(name, where=argument("select")).POLICY
    return policy
