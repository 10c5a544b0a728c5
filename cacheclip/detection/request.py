"""From names and settings to what learns on scenes, and why the others do not."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cacheclip.detection.learner import Learner
from cacheclip.detection.scenes import UNKNOWN, Matched, Scenes
from cacheclip.detection.source import Labelled
from cacheclip.draws import Shots
from cacheclip.engine.memory import default_limit
from cacheclip.errors import InputError, UsageError, some
from cacheclip.methods import base as methods
from cacheclip.methods.base import Method
from cacheclip.study.able import able
from cacheclip.study.data import SetData
from cacheclip.study.settings import Choices, Given, choices


@dataclass(frozen=True)
class Request:
    """What is to learn on scenes.

    Attributes:
        methods: their names.
        settings: setting -> a value; method -> such settings of its own.
        shots: proposals of a class.
        background: whether there is a class of what is nothing.
        max_memory: working memory in bytes; None leaves it to the device.
    """

    methods: tuple[str, ...]
    settings: Given
    shots: Shots = 16
    background: bool = False
    max_memory: int | None = None


def learners(
    request: Request,
    train: Scenes,
    known: Matched,
    seed: int,
    notice: Callable[[str], None] = lambda text: None,
) -> list[Learner]:
    """The methods that run on these scenes, in the order asked for.

    Args:
        request: what was asked for.
        train: what is learned from.
        known: which proposals have a class.
        seed: of what is drawn and random.
        notice: called with a line for each method that does not run.

    Raises:
        UsageError: none of them answers for classes without a box, or a setting has several values.
        InputError: proposals of fewer than two classes overlap an annotated box.
        StoreError: the regions have the features for none of them.
    """
    chosen = [methods.get(name) for name in request.methods]
    given = choices(request.settings, chosen)
    _refuse_several(given)
    open_ = [own for own in chosen if _serves(own)]
    if not open_:
        every = [own.name for own in map(methods.get, methods.names()) if _serves(own)]
        raise UsageError(
            f"{some(request.methods)}: for the classes learned from alone, for a whole test set, "
            "from shots of novel classes, or by more than one feature a box",
            where="--methods",
            fix=f"take --methods of {', '.join(every)}",
        )
    if bound := [own.name for own in chosen if not _serves(own)]:
        notice(f"left out, for they need more than a box's own feature: {', '.join(bound)}")
    _refuse_unlabelled(train, known)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    limit = request.max_memory or default_limit(device)
    data = SetData(Labelled(train, known.labels), device, limit)
    fit, lines = able(open_, [own.name for own in open_], given, data)
    for line in lines:
        notice(line)
    settings = {name: {n: v for n, (v,) in own.items()} for name, own in given.items()}
    return [
        Learner(own, settings[own.name], request.shots, seed, device, limit, request.background)
        for own in fit
    ]


def _serves(method: type[Method]) -> bool:
    """Whether it answers for classes that have no box, one proposal at a time, by its feature."""
    reads = method().reads
    by_one = {*reads.support, *reads.query} <= {"image", "image-norm"}
    open_ = method.transfers or method.learns == "nothing"
    return method.setting == "inductive" and by_one and open_ and not method.reads_new_shots


def _refuse_unlabelled(train: Scenes, known: Matched) -> None:
    """Refuse scenes that teach nothing.

    Raises:
        InputError: they are such.
    """
    there = len(set(known.labels.tolist()) - {UNKNOWN})
    if there < 2:
        raise InputError(
            f"proposals overlap annotated boxes of {'one' if there else 'no'} base class, and two "
            "are the fewest to learn from",
            where=f"--train {train.of.dataset}",
            fix="annotate boxes of more classes in its file, or mark fewer of them as novel",
        )


def _refuse_several(given: dict[str, Choices]) -> None:
    """Refuse several values of a setting: nothing here chooses.

    Raises:
        UsageError: there are several.
    """
    for method, own in given.items():
        for name, values in own.items():
            if len(values) > 1:
                raise UsageError(
                    f"{len(values)} values of {method}.{name}, and nothing here chooses",
                    where="--set",
                    fix=f"--set {method}.{name}={values[0]}",
                )
