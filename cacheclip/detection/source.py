"""Labelled proposals as the pictures of a data set, so that every method learns from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.detection.scenes import UNKNOWN, Scenes
from cacheclip.errors import StoreError
from cacheclip.files.disk import digest
from cacheclip.store import shard
from cacheclip.store.labels import Labels, SplitLabels
from cacheclip.store.reader import Features
from cacheclip.store.schema import REGIONS_SPLIT
from cacheclip.store.source import Layer, Part, Text

IMAGE, SPLIT = "image", "train"


@dataclass(frozen=True)
class Chosen:
    """The `Layer` of some proposals.

    Attributes:
        scenes: with all of them.
        chosen: the rows of these.
        digest: what they go by.
        shape: [D].
    """

    scenes: Scenes
    chosen: NDArray[np.int64]
    digest: str
    shape: tuple[int, ...]
    layer: str = IMAGE

    @property
    def rows(self) -> int:
        """How many they are."""
        return len(self.chosen)

    def ids(self) -> list[str]:
        """The number of each proposal: a draw ranks by them."""
        return list(map(str, self.chosen.tolist()))

    def read_rows(
        self, rows: Sequence[int] | NDArray[np.int64], *, normalize: bool = False
    ) -> Features:
        """Some of them in the order given, as `Store.read_rows` gives rows."""
        x = self.scenes.read(self.chosen[np.asarray(rows, np.int64)])
        norm = shard.lengths(x)
        return Features(x / norm[:, None] if normalize else x, norm, np.ones(len(x), np.bool_))


@dataclass(frozen=True)
class Labelled:
    """The `Source` of proposals with labels: a data set whose one split is `train`.

    Attributes:
        scenes: of whose set everything but rows and classes is taken.
        known: [R] their classes; those of `UNKNOWN` are no pictures.
    """

    scenes: Scenes
    known: NDArray[np.int64]
    own: bool = True
    notices: tuple[str, ...] = ()
    sentences: None = None
    aux: None = None
    given_draws: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """Id of the set of regions."""
        return self.scenes.of.dataset

    @property
    def name(self) -> str:
        """The encoder, MODEL@PRETRAINED."""
        return self.scenes.of.name

    @property
    def encoder(self) -> Mapping[str, Any]:
        """The encoder block of the keys."""
        return self.scenes.of.encoder

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """The preprocess block of the keys."""
        return self.scenes.of.preprocess

    @property
    def text(self) -> Text | None:
        """The text features of all classes."""
        return self.scenes.of.text

    @property
    def option(self) -> str:
        """What names their home in a command."""
        return self.scenes.of.option

    @property
    def extract_command(self) -> str:
        """What makes or completes the set."""
        return self.scenes.of.extract_command

    text_command = extract_command

    @property
    def aux_command(self) -> str:
        """What to do for a second encoder: regions have one."""
        return "take another method"

    @property
    def no_sentences(self) -> StoreError:
        """Regions come without sentences."""
        return self._lacks("sentences that describe the classes")

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The proposals that have a class."""
        return np.flatnonzero(self.known != UNKNOWN)

    @cached_property
    def labels(self) -> Labels:
        """Their classes, by all class names."""
        labels = self.known[self.rows].tolist()
        split = SplitLabels(digest(self.rows.tolist()), None, labels)
        return Labels(self.dataset, list(self.scenes.of.labels.classnames), {SPLIT: split})

    def store(self, split: str, layer: str = IMAGE, views: int | None = None) -> Layer:
        """The features of those proposals.

        Raises:
            StoreError: another layer, or views, which regions do not have.
        """
        if layer != IMAGE or views is not None:
            raise self._lacks(f"{layer} features" if views is None else "views")
        shape = (int(self.encoder["embed_dim"]),)
        return Chosen(self.scenes, self.rows, self.scenes.of.store(REGIONS_SPLIT).digest, shape)

    def part_store(self, name: str) -> Part:
        """Where a frozen part of the encoder lies."""
        return self.scenes.of.part_store(name)

    def part(self, name: str) -> Mapping[str, NDArray[Any]]:
        """A frozen part of the encoder."""
        return self.scenes.of.part(name)

    def failures(self, split: str) -> Mapping[int, Any]:
        """None: a proposal without features is not among them."""
        return {}

    def _lacks(self, what: str) -> StoreError:
        return StoreError(
            f"regions have no {what}",
            where=f"regions {self.dataset}",
            fix="take another method",
        )
