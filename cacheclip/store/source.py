"""What stage two reads features from, wherever they lie: on disk or in memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.store.features import VIEWS
from cacheclip.store.labels import Labels
from cacheclip.store.reader import Features

if TYPE_CHECKING:
    from cacheclip.store.auxiliary import Auxiliary

AUX = "aux:"  # before a layer's name: of a second encoder
NORM = "-norm"  # behind a layer's name: the norms of its vectors


def store_layer(name: str) -> str:
    """The store layer behind what a method reads: norms and views are of the image layer."""
    return name.removesuffix(NORM).removesuffix(VIEWS)


class Layer(Protocol):
    """The vectors of one split and layer, as `store.reader.Store` holds them."""

    @property
    def digest(self) -> str:
        """What it goes by in a row."""

    @property
    def layer(self) -> str:
        """Its name."""

    @property
    def rows(self) -> int:
        """Rows, failed ones included."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what a row holds: [D], [W, D] of W views, [P, D] of P parts."""

    def ids(self) -> list[str]:
        """The sample ids, in row order."""

    def read_rows(
        self, rows: Sequence[int] | NDArray[np.int64], *, normalize: bool = False
    ) -> Features:
        """Some rows in the order given."""


class Text(Protocol):
    """Text features, as `store.text.TextStore` holds them."""

    @property
    def digest(self) -> str:
        """What it goes by in a row."""

    @property
    def template(self) -> str:
        """Name of the prompt family."""

    def load(self) -> NDArray[np.float32]:
        """[C, T, D] raw; zeros where a class has no T-th prompt."""


class Part(Protocol):
    """A frozen part of an encoder, as `store.parts.PartStore` holds it."""

    @property
    def digest(self) -> str:
        """What it goes by in a row."""


class About(Protocol):
    """What there is to know of features beside their vectors and labels."""

    @property
    def dataset(self) -> str:
        """Id of the data set."""

    @property
    def name(self) -> str:
        """The encoder, MODEL@PRETRAINED."""

    @property
    def encoder(self) -> Mapping[str, Any]:
        """The encoder block of the keys."""

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """The preprocess block of the keys."""

    @property
    def text(self) -> Text | None:
        """Text features; None where there are none."""

    @property
    def sentences(self) -> Text | None:
        """Features of the sentences that describe each class; None where there are none."""

    @property
    def no_sentences(self) -> StoreError:
        """The error of sentences that are read and are not there."""

    @property
    def aux(self) -> "Auxiliary | None":
        """The features of a second encoder; None where there are none."""

    @property
    def aux_command(self) -> str:
        """What to do for a second encoder where there is none."""

    @property
    def own(self) -> bool:
        """Whether these are a user's pictures or arrays, and no data set of the field."""

    @property
    def notices(self) -> tuple[str, ...]:
        """A line each, for the user."""

    @property
    def option(self) -> str:
        """What names their home in a command, with a blank before it; "" for the user's own."""

    @property
    def extract_command(self) -> str:
        """What makes or completes the set."""

    @property
    def text_command(self) -> str:
        """What to do for text features where there are none."""

    @property
    def given_draws(self) -> Mapping[tuple[int, int], tuple[int, ...]]:
        """(seed, shots) -> rows of split train."""


class Source(About, Protocol):
    """Where features lie: `store.features.FeatureSet` on disk, `exchange.in_memory.ArraySet` here.

    Its labels are those of all splits. The study hands those of test to nobody but scoring.
    """

    @property
    def labels(self) -> Labels:
        """Labels and class names."""

    def store(self, split: str, layer: str = "image", views: int | None = None) -> Layer:
        """The vectors of a split and layer; of at least so many views of each picture."""

    def part_store(self, name: str) -> Part:
        """Where a frozen part of the encoder lies."""

    def part(self, name: str) -> Mapping[str, NDArray[Any]]:
        """A frozen part of the encoder: arrays by name, or one array of its own name."""

    def failures(self, split: str) -> Mapping[int, Any]:
        """The rows of a split that lack the features of some layer, and why."""


def layer_of(source: Source, split: str, name: str, views: int | None = None) -> Layer:
    """The vectors of a split that a method reads under a name: `aux:image` of a second encoder.

    Raises:
        StoreError: there are none.
    """
    layer = store_layer(name)
    if not layer.startswith(AUX):
        return source.store(split, layer, views)
    if source.aux is None:
        raise StoreError(
            "there are no features of a second encoder",
            where=f"data set {source.dataset}, encoder {source.name}",
            fix=source.aux_command,
        )
    return source.aux.store(split, layer.removeprefix(AUX), views)


def failures_of(source: Source, split: str) -> dict[int, Any]:
    """The rows of a split that lack the features of some layer of either encoder, and why."""
    other = {} if source.aux is None else source.aux.failures(split)
    return other | dict(source.failures(split))
