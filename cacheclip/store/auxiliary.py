"""A second encoder's features of the same pictures, row for row beside those of the first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError, UsageError, argument, some
from cacheclip.store.begun import begun
from cacheclip.store.features import FeatureSet
from cacheclip.store.find import is_encoder
from cacheclip.store.home import Home
from cacheclip.store.key import encoder_options, extract_command
from cacheclip.store.reader import Features
from cacheclip.store.source import AUX, Layer, Source


@dataclass(frozen=True)
class _Aligned:
    """A layer of the second encoder, its rows in the order of the first."""

    inner: Layer
    places: NDArray[np.int64]

    @property
    def digest(self) -> str:
        """What it goes by in a row."""
        return self.inner.digest

    @property
    def layer(self) -> str:
        """`aux:` and its name there."""
        return AUX + self.inner.layer

    @property
    def rows(self) -> int:
        """Rows, failed ones included."""
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what a row holds."""
        return self.inner.shape

    def ids(self) -> list[str]:
        """The sample ids, in row order."""
        ids = self.inner.ids()
        return [ids[place] for place in self.places.tolist()]

    def read_rows(self, rows: Any, *, normalize: bool = False) -> Features:
        """Some rows in the order given."""
        return self.inner.read_rows(self.places[np.asarray(rows)], normalize=normalize)


@dataclass(frozen=True)
class Auxiliary:
    """A feature set as it stands beside another one.

    Attributes:
        source: the set.
        places: split -> [n] the row there of each row of the other one's split.
    """

    source: Source
    places: Mapping[str, NDArray[np.int64]]

    @property
    def name(self) -> str:
        """The encoder, MODEL@PRETRAINED."""
        return self.source.name

    @property
    def encoder(self) -> Mapping[str, Any]:
        """The encoder block of its keys."""
        return self.source.encoder

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """The preprocess block of its keys."""
        return self.source.preprocess

    def store(self, split: str, layer: str, views: int | None = None) -> Layer:
        """The vectors of a split, row for row those of the other set.

        Args:
            split: of the other set.
            layer: as this set calls it, without `aux:`.
            views: see `Source.store`.

        Raises:
            StoreError: there are none.
        """
        return _Aligned(self.source.store(split, layer, views), self.places[split])

    def failures(self, split: str) -> dict[int, Any]:
        """The rows, as the other set counts them, that lack features here, and why."""
        failed = self.source.failures(split)
        places = enumerate(self.places[split].tolist()) if failed else ()
        return {row: failed[place] for row, place in places if place in failed}


def beside(first: Source, second: Source) -> Auxiliary:
    """The second set in the order of the first.

    Raises:
        StoreError: the second lacks pictures of the first.
    """
    splits = first.labels.splits
    return Auxiliary(
        second, {split: _places(first, second, split) for split in splits if splits[split].labels}
    )


def with_aux(home: Home, features: FeatureSet, aux: str | None) -> FeatureSet:
    """The feature set with the features of a second encoder beside it.

    Args:
        home: where both lie.
        features: of the first.
        aux: MODEL@PRETRAINED, or MODEL; None for the set as it is.

    Raises:
        UsageError: it is the first encoder.
        StoreError: its features are not there or are incomplete; the fix is the command that
            makes them.
    """
    if aux is None:
        return features
    model, pretrained = encoder_options(aux, None)
    there = begun(home.dataset_folder(features.dataset), home.option)
    encoders = [one.header.key["encoder"] for one in there]
    names = sorted({f"{encoder['name']}@{encoder['pretrained']}" for encoder in encoders})
    if not any(is_encoder(encoder, model, pretrained) for encoder in encoders):
        asked = {"model": model, "pretrained": pretrained}
        root = features.header.info.get("root")
        raise StoreError(
            f"there are no features of {features.dataset} by the second encoder, {aux}",
            where=f"{home.root} (has {', '.join(names)})",
            fix=features.aux_command
            if features.imported  # nothing there is to encode
            else extract_command(features.dataset, asked, root=root, home=home.option),
        )
    second = home.find(features.dataset, model, pretrained)
    if second.digest == features.digest:
        others = [argument("model", name) for name in names if name != features.name]
        raise UsageError(
            f"the second encoder is the first, {features.name}",
            where=f"{argument('aux', aux)}, data set {features.dataset}",
            fix=" or ".join(others) if others else f"make another one's: {features.aux_command}",
        )
    return replace(features, aux=beside(features, second))


def _places(first: Source, second: Source, split: str) -> NDArray[np.int64]:
    """The row of the second set for each row of a split of the first."""
    ids, there = first.store(split).ids(), second.store(split).ids()
    if ids == there:
        return np.arange(len(ids))
    row = {name: k for k, name in enumerate(there)}
    if lacking := [name for name in ids if name not in row]:
        raise StoreError(
            f"{len(lacking):,} of {len(ids):,} pictures of split {split} have no features by "
            f"{second.name}: {some(lacking)}",
            where=f"data set {second.dataset}, beside {first.dataset} by {first.name}",
            fix=second.extract_command,
        )
    return np.array([row[name] for name in ids])
