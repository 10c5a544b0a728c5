"""Rows that another store of the same encoder already holds for the same picture.

Ten new pictures in a folder change the list of samples, so every store gets a new key; with their
stamps (size and time, or content) the other pictures are known to be the same, and are copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cacheclip.store.home import Home
from cacheclip.store.key import Key
from cacheclip.store.reader import Store

Copies: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Raw vectors [k, D] and the norms [k] that they had before rounding."""


class Reusable:
    """Finds and copies the rows of one split that need not be encoded.

    Attributes:
        rows: the rows of the split that can be copied, in every layer.
    """

    def __init__(
        self, home: Home, keys: Mapping[str, Key], ids: Sequence[str], stamps: Sequence[str] | None
    ) -> None:
        """Look through the stores of the same data set and encoder.

        Args:
            home: where they lie.
            keys: the wanted key of each layer.
            ids: sample ids of the split in order.
            stamps: what tells that a picture was replaced; without them nothing is copied.
        """
        self._found: dict[str, dict[int, tuple[Store, int]]] = {}
        self.rows: frozenset[int] = frozenset()
        if stamps is None:
            return
        wanted = {sample: row for row, sample in enumerate(zip(ids, stamps, strict=True))}
        for layer, key in keys.items():
            stores = [store for store in home.stores_like(key) if store.key != key]
            self._found[layer] = {
                row: place for store in stores for row, place in _common(store, wanted)
            }
        self.rows = frozenset.intersection(*(frozenset(rows) for rows in self._found.values()))

    def copy(self, layer: str, rows: Sequence[int]) -> Copies:
        """Read some of `rows`, in the order given, from the stores that have them."""
        places = [self._found[layer][row] for row in rows]
        by_store: dict[Path, list[int]] = {}
        for index, (store, _) in enumerate(places):
            by_store.setdefault(store.path, []).append(index)
        features = np.empty((len(rows), places[0][0].dim), np.float32)
        norm = np.empty(len(rows), np.float32)
        for indices in by_store.values():
            store = places[indices[0]][0]
            read = store.read_rows([places[index][1] for index in indices])
            features[indices], norm[indices] = read.features, read.norm
        return features, norm


def _common(
    store: Store, wanted: Mapping[tuple[str, str], int]
) -> Iterator[tuple[int, tuple[Store, int]]]:
    """Pairs of a wanted row and the place where this store has it."""
    stamps = store.stamps()
    if stamps is None:
        return
    failed = {failure.row for failure in store.failures()}
    for row, sample in enumerate(zip(store.ids(), stamps, strict=True)):
        if sample in wanted and row not in failed:
            yield wanted[sample], (store, row)
