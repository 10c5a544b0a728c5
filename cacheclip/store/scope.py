"""Some classes of a feature set: a source whose other classes were never there.

Pictures of other classes count as unlabelled, so that no draw takes them and no test counts them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError, UsageError, argument, instead
from cacheclip.files.disk import digest
from cacheclip.store.labels import UNLABELLED, Labels, SplitLabels
from cacheclip.store.schema import TOKENS
from cacheclip.store.source import About, Layer, Part, Source, Text

if TYPE_CHECKING:
    from cacheclip.store.auxiliary import Auxiliary

ALL, BASE, NEW = "all", "base", "new"
EASY, HARD = "easy", "hard"
OTHER = {BASE: NEW, EASY: HARD}  # the half that fits on the first have never met


def half(name: str, n_classes: int) -> range:
    """The classes that CoCoOp's protocol calls base or new (2203.05557).

    Base are the first half of the classes in label order, the larger one where they are odd.
    """
    middle = -(-n_classes // 2)
    return range(middle) if name == BASE else range(middle, n_classes)


@dataclass(frozen=True)
class ScopedText:
    """The text features of some classes.

    Attributes:
        whole: those of all classes.
        classes: the numbers of these.
    """

    whole: Text
    classes: Sequence[int]

    @property
    def digest(self) -> str:
        """That of the store, which holds all classes."""
        return self.whole.digest

    @property
    def template(self) -> str:
        """Name of the prompt family."""
        return self.whole.template

    def load(self) -> NDArray[np.float32]:
        """[C, T, D] raw."""
        x: NDArray[np.float32] = self.whole.load()[np.asarray(self.classes)]
        return x


@dataclass(frozen=True)
class Scope:
    """The `Source` of some classes of another, which are numbered anew in their order.

    Attributes:
        whole: all classes.
        called: what a row calls these: `base`, `new`, `easy`, `hard`, or how many of how many with
            a digest.
        classes: their numbers there, rising.
    """

    whole: Source
    called: str
    classes: tuple[int, ...]

    @property
    def dataset(self) -> str:
        """Id of the data set."""
        return self.whole.dataset

    @property
    def name(self) -> str:
        """The encoder, MODEL@PRETRAINED."""
        return self.whole.name

    @property
    def encoder(self) -> Mapping[str, Any]:
        """The encoder block of the keys."""
        return self.whole.encoder

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """The preprocess block of the keys."""
        return self.whole.preprocess

    @property
    def own(self) -> bool:
        """Whether these are a user's pictures or arrays."""
        return self.whole.own

    @property
    def notices(self) -> tuple[str, ...]:
        """A line each, for the user."""
        return self.whole.notices

    @property
    def extract_command(self) -> str:
        """What makes or completes the set."""
        return self.whole.extract_command

    @property
    def text_command(self) -> str:
        """What to do for text features."""
        return self.whole.text_command

    @property
    def no_sentences(self) -> StoreError:
        """Why there are none, and the command that makes them."""
        return self.whole.no_sentences

    @property
    def option(self) -> str:
        """What a command takes to find the same set."""
        return self.whole.option

    @property
    def aux(self) -> "Auxiliary | None":
        """The features of a second encoder: splits keep their rows, so these fit as they are."""
        return self.whole.aux

    @property
    def aux_command(self) -> str:
        """What to do for a second encoder."""
        return self.whole.aux_command

    @property
    def text(self) -> ScopedText | None:
        """The text of these classes."""
        return ScopedText(self.whole.text, self.classes) if self.whole.text is not None else None

    @property
    def sentences(self) -> ScopedText | None:
        """The sentences of these classes."""
        own = self.whole.sentences
        return ScopedText(own, self.classes) if own is not None else None

    @cached_property
    def labels(self) -> Labels:
        """Labels and names of these classes."""
        whole = self.whole.labels
        number = {UNLABELLED: UNLABELLED} | {label: k for k, label in enumerate(self.classes)}
        splits = {
            name: SplitLabels(
                split.ids_sha256,
                split.files_sha256,
                [number.get(label, UNLABELLED) for label in split.labels],
            )
            for name, split in whole.splits.items()
        }
        names = [whole.classnames[label] for label in self.classes]
        return Labels(whole.dataset, names, splits, whole.own_sha256, whole.corrected)

    @property
    def given_draws(self) -> Mapping[tuple[int, int], tuple[int, ...]]:
        """(seed, shots) -> rows of split train that are of these classes."""
        draws = self.whole.given_draws
        others = self.others("train") if draws else ()
        return {key: tuple(row for row in own if row not in others) for key, own in draws.items()}

    def store(self, split: str, layer: str = "image", views: int | None = None) -> Layer:
        """The vectors of a split and layer, of all classes."""
        return self.whole.store(split, layer, views)

    def part_store(self, name: str) -> Part:
        """Where a frozen part of the encoder lies."""
        return self.whole.part_store(name)

    def part(self, name: str) -> Mapping[str, NDArray[Any]]:
        """A frozen part of the encoder; of the class names as tokens those of these classes."""
        part = self.whole.part(name)
        if name != TOKENS:
            return part
        return {own: x[np.asarray(self.classes)] for own, x in part.items()}

    def failures(self, split: str) -> Mapping[int, Any]:
        """The rows of a split that lack the features of some layer, and why."""
        return self.whole.failures(split)

    def others(self, split: str) -> frozenset[int]:
        """The rows of a split that are of other classes."""
        whole = self.whole.labels.splits[split]
        return self.labels.splits[split].unlabelled - whole.unlabelled


def name_of(source: Source) -> str:
    """What a row calls the classes of a source."""
    return source.called if isinstance(source, Scope) else ALL


def names_of(source: Source) -> list[str] | None:
    """The names of the classes of a source, where what a row calls them does not say which."""
    told = not isinstance(source, Scope) or source.called in (BASE, NEW)
    return None if told else list(source.labels.classnames)


def scoped(source: Source, asked: Sequence[str]) -> Source:
    """The classes that were asked for.

    Args:
        source: all classes.
        asked: `all`, `base` or `new`; or the names of classes. Nothing asks for all.

    Raises:
        UsageError: there is no such class, or they are fewer than two.
    """
    names = list(source.labels.classnames)
    if not asked or list(asked) == [ALL]:
        return source
    if list(asked) in ([BASE], [NEW]):
        return _half(source, half(asked[0], len(names)), asked[0])
    if unknown := [name for name in asked if name not in names]:
        raise UsageError(
            f"there is no class {unknown[0]!r}",
            where=f"{argument('classes')}, data set {source.dataset}",
            fix=f"{instead(unknown[0], names)}; or {', '.join((ALL, BASE, NEW))}",
        )
    return among(source, [names.index(name) for name in asked])


def easiest(source: Source, accuracy: Sequence[float]) -> Source:
    """The half of the classes on which accuracy is highest, the larger half where they are odd.

    Args:
        source: all classes.
        accuracy: one a class; of equals the first in label order goes first.
    """
    ranked = sorted(range(len(accuracy)), key=lambda label: (-accuracy[label], label))
    return _half(source, sorted(ranked[: len(half(BASE, len(ranked)))]), EASY)


def beside(source: Source, learned: About) -> Source:
    """The classes of a source that are not of the half that was learned from."""
    if not isinstance(learned, Scope):
        raise TypeError("all classes were learned from")
    whole = source.classes if isinstance(source, Scope) else range(len(source.labels.classnames))
    others = [label for label, own in enumerate(whole) if own not in learned.classes]
    return _half(source, others, OTHER.get(learned.called, ""))


def _half(source: Source, classes: Sequence[int], called: str) -> Source:
    """A half of some classes is not the half of all, so that it is called by its names."""
    if isinstance(source, Scope):
        return among(source, classes)
    return _of(source, classes, called)


def among(source: Source, classes: Collection[int]) -> Source:
    """The classes of these numbers, in label order; the source itself where they are all of it.

    Raises:
        UsageError: they are fewer than two.
    """
    own = sorted(set(classes))
    if len(own) == len(source.labels.classnames):
        return source
    if isinstance(source, Scope):  # of some classes some: they are classes of the whole
        return among(source.whole, [source.classes[label] for label in own])
    names = source.labels.classnames
    their = digest([names[label] for label in own])[:8]
    return _of(source, own, f"{len(own)}-of-{len(names)}-{their}")


def _of(source: Source, classes: Sequence[int], called: str) -> Scope:
    if len(classes) < 2:
        raise UsageError(
            f"{len(classes)} of {len(source.labels.classnames)} classes: nothing to tell apart",
            where=f"data set {source.dataset}",
            fix=f"{argument('classes')} with two or more of them",
        )
    return Scope(source, called, tuple(classes))
