"""The candidates of one cell, compared on pictures they did not see; no stack is fitted here."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cacheclip.errors import CacheclipError
from cacheclip.methods.base import Method, Settings
from cacheclip.select.base import Policy, distance, mean_log_p
from cacheclip.study.heads import Heads
from cacheclip.study.plan import Cell, Variant

CLOSE = 0.1  # a number that a search found is at an end of its range if it is within that share


@dataclass(frozen=True, eq=False)
class Point:
    """Settings that were tried with a variant, and what they did on n pictures it did not see.

    Attributes:
        variant: the candidate; the pictures may have been asked of its folds.
        settings: all of the method, with what a search found.
        hits: how many are right.
        log_p: [n] log probability of the labels; -inf where hits alone ruled the point out.
    """

    variant: Variant
    settings: Settings
    hits: int
    log_p: Tensor


@dataclass(frozen=True)
class Ranking:
    """Points from the nearest to zero-shot outwards: the first win ties.

    Attributes:
        points: P of them.
        log_p: [P, n].
        constant: the number of the constants; 0 where they were not tried.
        zero_shot: the number of zero-shot, where it was tried.
    """

    points: Sequence[Point]
    log_p: Tensor
    constant: int
    zero_shot: int | None

    def best(self, policy: Policy, pictures: slice = slice(None)) -> Point:
        """The one that a policy chooses on some of the pictures."""
        return self.points[policy.best(self.log_p[:, pictures], self.constant, self.zero_shot)]

    def may_win(self, policy: Policy) -> set[Variant]:
        """Whose points may be chosen, now or when others have entered."""
        front = int(mean_log_p(self.log_p).argmax())
        homes = [self.constant] if self.zero_shot is None else [self.constant, self.zero_shot]
        points = [self.best(policy), self.points[front], *(self.points[k] for k in homes)]
        return {point.variant for point in points}


@dataclass
class Race:
    """The candidates of one cell so far.

    Attributes:
        method: of all of them.
        policy: how they are compared.
        cell: with the constants, which another candidate must beat.
        points: all that was tried, where a policy chooses.
        front: the one that is chosen.
        refit: the chosen candidate, fitted on all of the support, where folds of it chose.
        error: why no candidate can win any more.
        seconds: time of the stacks that its candidates ran in.
        size: variants of those stacks.
    """

    method: type[Method]
    policy: Policy
    cell: Cell
    points: list[Point] = field(default_factory=list)
    front: Point | None = None
    refit: Heads | None = None
    error: CacheclipError | None = None
    seconds: float = 0.0
    size: int = 0
    _kept: dict[Variant, Heads] = field(default_factory=dict)  # those that may yet win

    @property
    def decided(self) -> bool:
        """Whether there was anything to choose between."""
        return len(self.points) > 1

    @property
    def winner(self) -> Heads | None:
        """The one variant that won, with the numbers that its search found; None if none is fit."""
        if self.folds is not None:
            return self.refit
        if self.front is not None:
            return self._kept[self.front.variant].settled(self.front.settings)
        return next(iter(self._kept.values()), None)

    @property
    def folds(self) -> Heads | None:
        """What won as each fold of the support left it; None where these did not choose."""
        if self.policy.held != "folds" or self.front is None:
            return None
        return self._kept[self.front.variant].settled(self.front.settings)

    @property
    def tried(self) -> list[tuple[Settings, list[Point]]]:
        """Each candidate as it was asked for, and its points: none where it was not fit."""
        points: dict[Variant, list[Point]] = {variant: [] for variant in self.cell.variants}
        for point in self.points:
            points[point.variant].append(point)
        return [(variant.settings, own) for variant, own in points.items()]

    @property
    def border(self) -> list[str]:
        """The settings that were chosen at the far end of several values; zero-shot is none."""
        winner = self.winner
        if winner is None or not self.points:
            return []
        found = []
        for name, value in winner.settings.items():
            own = winner.method.table[name]
            tried = (point.settings.get(name, own.default) for point in self.points)
            values = {float(v) for v in tried if not isinstance(v, str)}
            constant = self.cell.constant.get(name, own.default)
            if isinstance(value, str) or len(values) < 2 or value == constant:
                continue
            low, high = min(values), max(values)
            if name in winner.method.searched and own.search is not None:
                low, high = own.search
            if value in (own.low, own.high):
                continue  # there is nothing beyond
            at_low = own.zero_shot != "low" and value <= low * (1 + CLOSE)
            at_high = own.zero_shot != "high" and value >= high * (1 - CLOSE)
            found += [name] if at_low or at_high else []
        return found

    def enter(self, rivals: Heads, points: Sequence[Sequence[Point]]) -> None:
        """Let candidates run against those before them.

        Args:
            rivals: fitted variants of the cell; what their search found is not in them yet.
            points: what was tried with each candidate; empty where nothing chooses, and then the
                first that enters is the one.
        """
        entering = {variant.candidate for variant in rivals.variants}
        self.points += [point for own in points for point in own]
        if not self.points:
            self._kept = self._kept or {rivals.variants[0]: rivals.one(0)}
            return
        ranking = self.ranking
        self.front = ranking.best(self.policy)
        self._kept = {
            variant: rivals.of_candidate(variant) if variant in entering else self._kept[variant]
            for variant in ranking.may_win(self.policy)
        }

    @property
    def ranking(self) -> Ranking:
        """All points so far; at equal distance in the order of the candidates."""
        constant = self.cell.constant
        points = [point for _, own in self.tried for point in own]
        points.sort(key=lambda point: distance(self.method, point.settings, constant))
        settings = [point.settings for point in points]
        off = self.method.off.items()
        plain = [k for k, own in enumerate(settings) if off and off <= own.items()]
        return Ranking(
            points,
            torch.stack([point.log_p for point in points]),
            settings.index(constant) if constant in settings else 0,
            plain[0] if plain else None,
        )
