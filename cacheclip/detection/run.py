"""Methods on scenes: they learn from base boxes, are taught by what they find, and are scored."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.learner import Detector, Learner
from cacheclip.detection.precision import Found, Precision, average_precision
from cacheclip.detection.proposals import Matched, Proposals, matched
from cacheclip.detection.pseudo import Rule, pseudo_labels
from cacheclip.detection.score import Fusion, detections
from cacheclip.detection.source import Encoded

BASE, NOVEL, ALL = "base", "novel", "all"


@dataclass(frozen=True)
class Scenes:
    """Pictures with proposals.

    Attributes:
        of: who encoded them, and the text of the classes.
        proposals: all of them.
        opened: gives what is there; of test scenes it is called by the score alone.
    """

    of: Encoded
    proposals: Proposals
    opened: Callable[[], Found]


@dataclass(frozen=True)
class Protocol:
    """How scenes are learned from and what becomes a detection.

    Attributes:
        novel: [C] bool, the classes whose boxes nobody sees before the score.
        rounds: of self-training.
        rule: which proposals are believed then.
        fusion: of objectness and class.
    """

    novel: NDArray[np.bool_]
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
        return mean(known) if known else float("nan")


def run(
    train: Scenes,
    test: Scenes,
    learners: Sequence[Learner],
    protocol: Protocol,
    notice: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """All methods on one pair of scenes; what is there in the test scenes is opened last.

    Boxes of novel classes in the train scenes are nobody's either: they are left out.

    Args:
        train: what is learned from.
        test: what is scored; its classes are those of `train`.
        learners: one a method.
        protocol: how.
        notice: called with a line for the user.
    """
    annotated = train.opened()
    base = annotated.at(~protocol.novel[annotated.labels])
    known = matched(train.proposals, base)
    told: list[tuple[Result, Found]] = []
    nobody = Precision(*(np.full(len(protocol.novel), np.nan) for _ in "ab"))
    for learner in learners:
        for rounds, (detector, pseudo) in enumerate(_taught(train, learner, known, protocol)):
            found = detections(
                test.proposals, detector.probabilities(test.proposals), protocol.fusion
            )
            name, seed = learner.method.name, learner.seed
            told.append((Result(name, rounds, seed, pseudo, nobody, protocol.novel), found))
            notice(f"{name}, seed {seed}, round {rounds}: {len(found):,} detections")
    truth, n = test.opened(), len(test.proposals.offsets) - 1
    return [
        replace(own, precision=average_precision(truth, found, n, len(protocol.novel)))
        for own, found in told
    ]


def _taught(
    train: Scenes, learner: Learner, known: Matched, protocol: Protocol
) -> Iterator[tuple[Detector, int]]:
    """The detector of base boxes, then that of each round of self-training, and its pseudo-labels.

    Each round starts anew from base boxes: what the round before believed is no truth.
    """
    detector = learner.learned(train.of, train.proposals, known)
    yield detector, 0
    shots = None if learner.shots == "all" else learner.shots
    for _ in range(protocol.rounds if learner.method.learns == "support" else 0):
        p = detector.probabilities(train.proposals)
        rows, labels = pseudo_labels(
            train.proposals, p, known, protocol.novel, replace(protocol.rule, most=shots),
            protocol.fusion,
        )  # fmt: skip
        believed = known.beside(rows, labels)
        detector = learner.learned(train.of, train.proposals, believed)
        yield detector, len(rows)
