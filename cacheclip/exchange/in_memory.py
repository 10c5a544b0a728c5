"""Arrays as a feature set that lies in memory: stage two reads it as it reads one on disk.

It goes by the keys that the same arrays have once they are imported, so its rows are the same rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.exchange.arrays import Arrays
from cacheclip.exchange.keys import OF_SENTENCES, TEMPLATE, common, key_of_text, labels_of
from cacheclip.store import shard
from cacheclip.store.key import image_key, key_digest
from cacheclip.store.labels import Labels
from cacheclip.store.reader import Features as Vectors

if TYPE_CHECKING:
    from cacheclip.store.auxiliary import Auxiliary

IMAGE = "image"  # the one layer that arrays have


@dataclass(frozen=True)
class ArrayStore:
    """The vectors of one split.

    Attributes:
        digest: what a store of them goes by.
        vectors: [n, D] float16 or float32, raw.
    """

    digest: str
    vectors: NDArray[Any]
    _ids: Sequence[str]
    layer: str = IMAGE

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.vectors)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row: [D]."""
        return tuple(self.vectors.shape[1:])

    def ids(self) -> list[str]:
        """The sample ids, in row order."""
        return list(self._ids)

    def read_rows(
        self, rows: Sequence[int] | NDArray[np.int64], *, normalize: bool = False
    ) -> Vectors:
        """Some rows in the order given, as `Store.read_rows` gives them."""
        x = self.vectors[np.asarray(rows, np.int64)].astype(np.float32)
        norm = shard.lengths(x)
        if normalize:
            x /= np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
        return Vectors(x, norm, np.ones(len(x), np.bool_))


@dataclass(frozen=True)
class ArrayText:
    """Text features.

    Attributes:
        digest: what a store of them goes by.
        per_prompt: [C, T, D] float16 or float32, raw.
    """

    digest: str
    per_prompt: NDArray[Any]
    template: str = TEMPLATE

    def load(self) -> NDArray[np.float32]:
        """[C, T, D] float32."""
        return self.per_prompt.astype(np.float32)


@dataclass(frozen=True)
class ArraySet:
    """A feature set of checked arrays; see `store.features.FeatureSet`, whose part it plays.

    Attributes:
        dataset: its id.
        arrays: the arrays.
        aux: the features of a second encoder; None without any.
    """

    dataset: str
    arrays: Arrays
    own: bool = True
    option: str = ""
    extract_command: str = (
        'Features.of(X, y, split=split, ...), split [N] of "train", "val" and "test"'
    )
    text_command: str = (
        "give Features.of(...) text=T, logit_scale=100: T [C, D] from the text tower of the same "
        "encoder, the scale that of OpenAI's CLIP"
    )
    aux: "Auxiliary | None" = None
    aux_command: str = "give Features.of(...) aux=A [N, D], a second encoder's features of its rows"

    @property
    def no_sentences(self) -> StoreError:
        """The error of sentences that are read and are not there."""
        return StoreError(
            "there are no sentences that describe the classes",
            where=f"data set {self.dataset}, encoder {self.name}",
            fix="give Features.of(...) sentences=S [C, S, D], features of sentences that describe "
            "each class, from the text tower of the same encoder",
        )

    @cached_property
    def _common(self) -> dict[str, Any]:
        return common(self.arrays)

    @property
    def encoder(self) -> Mapping[str, Any]:
        """What stands in a bundle for the encoder: a digest of the arrays."""
        encoder: Mapping[str, Any] = self._common["encoder"]
        return encoder

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """Nothing is known of it."""
        return {}

    @property
    def name(self) -> str:
        """The encoder, `imported@DIGEST`."""
        return f"{self.encoder['name']}@{self.encoder['pretrained']}"

    @cached_property
    def labels(self) -> Labels:
        """Labels and class names."""
        return labels_of(self.dataset, self.arrays)

    @property
    def notices(self) -> tuple[str, ...]:
        """What was read as what."""
        return self.arrays.notices

    @property
    def given_draws(self) -> Mapping[tuple[int, int], tuple[int, ...]]:
        """(seed, shots) -> rows of split train: support sets that came with the arrays."""
        place = np.cumsum(self.arrays.split == "train") - 1  # row of the arrays -> row of the split
        return {cell: tuple(place[rows].tolist()) for cell, rows in self.arrays.draws.items()}

    @cached_property
    def text(self) -> ArrayText | None:
        """The text features, None without any."""
        per_prompt = self.arrays.per_prompt
        if per_prompt is None:
            return None
        key = key_of_text(self._common, per_prompt, self.arrays.classnames)
        return ArrayText(key_digest(key), per_prompt)

    @cached_property
    def sentences(self) -> ArrayText | None:
        """The features of sentences, None without any."""
        per_prompt = self.arrays.sentences
        if per_prompt is None:
            return None
        key = key_of_text(self._common, per_prompt, self.arrays.classnames, OF_SENTENCES)
        return ArrayText(key_digest(key), per_prompt, OF_SENTENCES)

    @cached_property
    def _stores(self) -> Mapping[str, ArrayStore]:
        made = {}
        for split, rows in self.arrays.rows().items():
            ids = [self.arrays.ids[row] for row in rows.tolist()]
            key = image_key(layer=IMAGE, **self._common, dataset=self.dataset, split=split, ids=ids)
            made[split] = ArrayStore(key_digest(key), self.arrays.features[rows], ids)
        return made

    def store(self, split: str, layer: str = IMAGE, views: int | None = None) -> ArrayStore:
        """The vectors of a split.

        Raises:
            StoreError: these arrays have no such layer or split, or views of a picture are wanted.
        """
        if layer != IMAGE or views is not None or split not in self._stores:
            what = f"{layer} features" if views is None else f"{views} views of layer {layer}"
            raise StoreError(
                f"there are no {what} of split {split}",
                where=f"data set {self.dataset}: arrays are the layer image of their splits",
                fix=f"{'take another method' if views is None else 'leave views out'}, or encode "
                "the pictures: cacheclip extract --help",
            )
        return self._stores[split]

    def part_store(self, name: str) -> NoReturn:
        """Arrays come without their encoder.

        Raises:
            StoreError: always.
        """
        raise StoreError(
            f"there is no part {name} of the encoder",
            where=f"data set {self.dataset}: arrays come without their encoder",
            fix="take another method, or encode the pictures: cacheclip extract --help",
        )

    def part(self, name: str) -> NoReturn:
        """See `part_store`."""
        self.part_store(name)

    def failures(self, split: str) -> Mapping[int, Any]:
        """The rows of a split that have no features: arrays are checked, so there are none."""
        return {}
