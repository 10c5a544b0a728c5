"""The candidates of one cell, compared on its validation pictures; no stack is fitted here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cacheclip.errors import CacheclipError
from cacheclip.methods.base import Method, Params, Settings
from cacheclip.select.base import Policy, distance, mean_log_p

CLOSE = 0.1  # a number that a search found is at an end of its range if it is within that share

Place = tuple[int, int]  # a candidate of the cell, and the point of its search


@dataclass(frozen=True)
class Point:
    """Settings that were tried, and what they did on the n validation pictures."""

    settings: Settings
    hits: int
    log_p: Tensor  # [n] log probability of the labels; -inf where hits alone ruled the point out


@dataclass(frozen=True)
class Entrant:
    """A fitted candidate; what its search finds is not in its settings and params yet."""

    settings: Settings
    method: Method
    params: Callable[[], Params]  # [1, ...], a copy that keeps no other variant alive
    precision: str | None


@dataclass(frozen=True)
class Winner:
    """The chosen variant of a cell, settled before any test label is opened."""

    settings: Settings
    method: Method
    params: Params  # [1, ...]
    precision: str | None  # of its training steps


@dataclass
class Race:
    """The candidates of one cell so far.

    Attributes:
        policy: how they are compared.
        constant: the method's own settings, which another candidate must beat.
        points: candidate -> all that was tried with it, where a policy chooses.
        chosen: the point in front.
        winner: the variant that has it.
        error: why a candidate is out of the race.
        seconds: time of the stacks that its candidates ran in.
        size: variants of those stacks.
    """

    policy: Policy
    constant: Settings
    points: dict[int, list[Point]] = field(default_factory=dict)
    chosen: Place | None = None
    winner: Winner | None = None
    error: CacheclipError | None = None
    seconds: float = 0.0
    size: int = 0
    _kept: dict[int, Winner] = field(default_factory=dict)  # those that may yet win

    @property
    def front(self) -> Point | None:
        """The point that was chosen; None where nothing chooses."""
        return self.points[self.chosen[0]][self.chosen[1]] if self.points and self.chosen else None

    @property
    def decided(self) -> bool:
        """Whether validation pictures had anything to choose between."""
        return sum(map(len, self.points.values())) > 1

    @property
    def border(self) -> list[str]:
        """The settings that were chosen at the far end of several values; zero-shot is none."""
        if self.winner is None or not self.points:
            return []
        tried = [point.settings for own in self.points.values() for point in own]
        found = []
        for name, value in self.winner.settings.items():
            values = {float(s[name]) for s in tried if not isinstance(s[name], str)}
            if isinstance(value, str) or len(values) < 2 or value == self.constant[name]:
                continue
            low, high = min(values), max(values)
            own = self.winner.method.table[name]
            if name in self.winner.method.searched and own.search is not None:
                low, high = own.search
            if value in (own.low, own.high):
                continue  # there is nothing beyond
            at_low = own.zero_shot != "low" and value <= low * (1 + CLOSE)
            at_high = own.zero_shot != "high" and value >= high * (1 - CLOSE)
            found += [name] if at_low or at_high else []
        return found

    def enter(self, number: int, entrant: Entrant, points: Sequence[Point]) -> None:
        """Let a candidate run; the winner so far is settled anew.

        Args:
            number: of the candidate, in the order of the cell.
            entrant: the candidate.
            points: what was tried with it; empty where nothing chooses, and then the first that
                enters is the one.
        """
        if not points and self.winner is not None:
            return
        self._kept[number] = Winner(
            entrant.settings, entrant.method, entrant.params(), entrant.precision
        )
        if not points:
            self.chosen, self.winner = (number, 0), self._kept[number]
            return
        self.points[number] = list(points)
        places, log_p, homes = self.ranked(entrant.method)
        front = places[int(mean_log_p(log_p).argmax())]
        self.chosen = places[self.policy.best(log_p, *homes)]
        may_win = {self.chosen[0], front[0], *(places[k][0] for k in homes if k is not None)}
        self._kept = {n: kept for n, kept in self._kept.items() if n in may_win}
        point = self.points[self.chosen[0]][self.chosen[1]]
        self.winner = _settled(self._kept[self.chosen[0]], point.settings)

    def ranked(self, method: Method) -> tuple[list[Place], Tensor, tuple[int, int | None]]:
        """All points from the nearest to zero-shot outwards, and their log p [P, n].

        Beside them the numbers of the constants and of zero-shot. Where the constants are not
        among the points, the first stands in their place.
        """
        places = [(k, p) for k, own in self.points.items() for p in range(len(own))]
        places.sort(key=lambda at: distance(type(method), self._settings(at), self.constant))
        settings = [self._settings(at) for at in places]
        constant = settings.index(self.constant) if self.constant in settings else 0
        off = method.off.items()
        plain = [k for k, own in enumerate(settings) if off and off <= own.items()]
        log_p = torch.stack([self.points[k][p].log_p for k, p in places])
        return places, log_p, (constant, plain[0] if plain else None)

    def _settings(self, at: Place) -> Settings:
        return self.points[at[0]][at[1]].settings


def _settled(kept: Winner, settings: Settings) -> Winner:
    """The variant with the numbers that its search found, in settings and params."""
    found = {name: value for name, value in settings.items() if kept.settings[name] != value}
    params = kept.params | {
        name: torch.full_like(kept.params[name], float(value)) for name, value in found.items()
    }
    return Winner(settings, kept.method, params, kept.precision)
