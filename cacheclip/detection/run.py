"""Methods on scenes: they learn from base boxes, are taught by what they find, and are scored."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.learner import Detector, Learner
from cacheclip.detection.precision import Found, Precision, average_precision
from cacheclip.detection.pseudo import Rule, pseudo_labels
from cacheclip.detection.scenes import Matched, Scenes
from cacheclip.detection.score import Fusion, detections

BASE, NOVEL, ALL = "base", "novel", "all"


@dataclass(frozen=True)
class Protocol:
    """How scenes are learned from and what becomes a detection.

    Attributes:
        rounds: of self-training.
        rule: which proposals are believed then.
        fusion: of objectness and class.
    """

    rounds: int = 1
    rule: Rule = field(default_factory=Rule)
    fusion: Fusion = field(default_factory=Fusion)


@dataclass(frozen=True)
class Result:
    """What one method does on one pair of scenes.

    Attributes:
        method: its name.
        rounds: of self-training so far.
        seed: of the draw and the fit.
        pseudo: how many proposals were believed in the last round.
        precision: of each class.
        novel: [C] bool.
    """

    method: str
    rounds: int
    seed: int
    pseudo: int
    precision: Precision
    novel: NDArray[np.bool_]

    def mean(self, classes: str, overlaps: str = "ap50") -> float:
        """The mean over base, novel or all classes of their `ap50` or `ap`."""
        which = {BASE: ~self.novel, NOVEL: self.novel, ALL: np.ones_like(self.novel)}[classes]
        each: NDArray[np.float64] = getattr(self.precision, overlaps)[which]
        known = each[~np.isnan(each)].tolist()
        return mean(known) if known else nan

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it: fractions, None where no class is in a picture."""
        means = {
            f"{overlaps}_{which}": _or_none(self.mean(which, overlaps))
            for overlaps in ("ap50", "ap")
            for which in (BASE, NOVEL, ALL)
        }
        each = {name: list(map(_or_none, getattr(self.precision, name))) for name in ("ap50", "ap")}
        own = {"method": self.method, "rounds": self.rounds, "seed": self.seed}
        return own | {"pseudo": self.pseudo} | means | {"per_class": each}


def run(
    train: Scenes,
    test: Scenes,
    known: Matched,
    learners: Sequence[Learner],
    protocol: Protocol,
    notice: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """All methods on one pair of scenes; what is true of the test scenes is opened last.

    Args:
        train: what is learned from.
        test: what is scored; its classes are those of `train`.
        known: what annotations of `train` say that its proposals are.
        learners: one a method.
        protocol: how.
        notice: called with a line for the user.
    """
    novel = train.proposals.novel
    answered: list[tuple[Learner, int, int, Found]] = []
    for learner in learners:
        for rounds, (detector, pseudo) in enumerate(_taught(train, learner, known, protocol)):
            found = detections(test, detector.probabilities(test), protocol.fusion)
            answered.append((learner, rounds, pseudo, found))
            name = f"{learner.method.name}, round {rounds}" if rounds else learner.method.name
            notice(f"{name}: {len(found):,} detections, {pseudo:,} proposals believed")
    truth, n = test.opened(), len(test.by_picture)
    return [
        Result(
            learner.method.name, rounds, learner.seed, pseudo,
            average_precision(truth, found, n, test.n_classes), novel,
        )
        for learner, rounds, pseudo, found in answered
    ]  # fmt: skip


def _taught(
    train: Scenes, learner: Learner, known: Matched, protocol: Protocol
) -> Iterator[tuple[Detector, int]]:
    """The detector of base boxes, then that of each round of self-training, and its pseudo-labels.

    Each round starts anew from base boxes: what the round before believed is no truth.
    """
    detector = learner.learned(train, known)
    yield detector, 0
    shots = None if learner.shots == "all" else learner.shots
    for _ in range(protocol.rounds if learner.method.learns == "support" else 0):
        p = detector.probabilities(train)
        rows, labels = pseudo_labels(
            train, p, known, replace(protocol.rule, most=shots), protocol.fusion
        )  # fmt: skip
        believed = known.beside(rows, labels)
        detector = learner.learned(train, believed)
        yield detector, len(rows)


def _or_none(x: float) -> float | None:
    return None if isnan(x) else float(x)
