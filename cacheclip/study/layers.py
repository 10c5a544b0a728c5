"""The cached vectors that a study uses, on the host: each row is read once, the others never."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cacheclip.store.source import NORM, Layer, Source, store_layer


@dataclass
class _Held:
    """What was read of one store.

    Attributes:
        place: [rows of the store] where each row is held, -1 where it is not.
        vectors: [k, D], unit vectors of the layer `image`, raw ones of any other.
        norm: [k, 1], what the stored vectors had for a norm.
    """

    place: NDArray[np.int32]
    vectors: Tensor
    norm: Tensor


class Layers:
    """Rows of the layers of one source, in float32."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._expected: dict[str, set[int]] = {}
        self._held: dict[tuple[str, str], _Held] = {}

    def expect(self, split: str, rows: Iterable[int]) -> None:
        """Say that these rows will be wanted, so that the first that wants any reads them all."""
        self._expected.setdefault(split, set()).update(rows)

    def rows(self, split: str, name: str, rows: Sequence[int]) -> Tensor:
        """Some rows of one layer of a split, [k, ...] in the order given; not to be written to."""
        layer = store_layer(name)
        store = self._source.store(split, layer)
        if (split, layer) not in self._held:
            self._held[split, layer] = _nothing_of(store)
        held = self._held[split, layer]
        wanted = np.asarray(rows, np.int64)
        if (held.place[wanted] < 0).any():
            expected = np.array(sorted(self._expected.get(split, ())), np.int64)
            asked = np.union1d(wanted, expected)
            _read(store, asked[held.place[asked] < 0], held)
        x = held.norm if name.endswith(NORM) else held.vectors
        place = held.place[wanted]
        if np.array_equal(place, np.arange(len(x))):
            return x  # all there is, as it lies there: no copy
        return x[torch.from_numpy(place)]


def _nothing_of(store: Layer) -> _Held:
    place = np.full(store.rows, -1, np.int32)
    return _Held(place, torch.empty(0, store.dim), torch.empty(0, 1))


def _read(store: Layer, rows: NDArray[np.int64], held: _Held) -> None:
    """Read rows of which none is held yet, and hold them too."""
    read = store.read_rows(rows, normalize=store.layer == "image")
    first = len(held.vectors)
    held.place[rows] = np.arange(first, first + len(rows), dtype=np.int32)
    vectors, norm = torch.from_numpy(read.features), torch.from_numpy(read.norm)[:, None]
    held.vectors = torch.cat([held.vectors, vectors]) if first else vectors
    held.norm = torch.cat([held.norm, norm]) if first else norm
