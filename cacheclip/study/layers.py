"""The cached vectors that a study uses, on the host: each row is read once, the others never."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cacheclip.methods.base import Method, Reads
from cacheclip.store.features import VIEWED, VIEWS
from cacheclip.store.source import AUX, NORM, Layer, Source, layer_of, store_layer
from cacheclip.task import Unread, unit

IMAGE = "image"
UNIT = (IMAGE, AUX + IMAGE)  # layers whose rows are brought to length 1


@dataclass
class _Held:
    """What was read of one store.

    Attributes:
        place: [rows of the store] where each row is held, -1 where it is not.
        vectors: [k, D], [k, W, D] of W views, [k, P, D] of P parts; unit vectors of the layers
            in `UNIT`, raw ones of any other.
        norm: [k, 1] or [k, W, 1], what those vectors had for a norm.
    """

    place: NDArray[np.int32]
    vectors: Tensor
    norm: Tensor


class Layers:
    """Rows of the layers of one source, in float32.

    Args:
        source: where they lie.
        device: where those of a query go.
        limit: bytes that a layer of a query may take at most to be held.
    """

    def __init__(self, source: Source, device: torch.device, limit: int) -> None:
        self._source = source
        self._device = device
        self._limit = limit
        self._expected: dict[str, set[int]] = {}
        self._held: dict[tuple[str, str, int], _Held] = {}

    def expect(self, split: str, rows: Iterable[int]) -> None:
        """Say that these rows will be wanted, so that the first that wants any reads them all."""
        self._expected.setdefault(split, set()).update(rows)

    def rows(self, split: str, name: str, rows: Sequence[int], views: int = 1) -> Tensor:
        """Some rows of one layer of a split, in the order given; not to be written to.

        Args:
            split: of the data set.
            name: as `Query` names it.
            rows: k of them.
            views: W, how many views of each picture.

        Returns:
            [k, ...], or [k, W, ...] where W is above 1.
        """
        store = self.store(split, name, views)
        own = split, store.layer, views
        if own not in self._held:
            self._held[own] = _nothing_of(store)
        held = self._held[own]
        wanted = np.asarray(rows, np.int64)
        if (held.place[wanted] < 0).any():
            expected = np.array(sorted(self._expected.get(split, ())), np.int64)
            asked = np.union1d(wanted, expected)
            _read(store, asked[held.place[asked] < 0], held, views)
        x = held.norm if name.endswith(NORM) else held.vectors
        place = held.place[wanted]
        if np.array_equal(place, np.arange(len(x))):
            return x  # all there is, as it lies there: no copy
        return x[torch.from_numpy(place)]

    def asked(self, split: str, name: str, rows: Sequence[int], views: int = 1) -> Tensor | Unread:
        """One layer [k, ...] of k pictures of a query, on the device; not to be written to.

        A layer of several vectors a picture that would take more than the limit is left where it
        lies, and its rows are read whenever a part of the query asks for them.
        """
        store = self.store(split, name, views)
        inner = store.shape if views == 1 else (views, *store.shape[1:])
        if len(inner) == 1 or 4 * len(rows) * prod(inner) <= self._limit:
            return self.rows(split, name, rows, views).to(self._device)

        def read(rows: Tensor) -> Tensor:
            found = torch.from_numpy(store.read_rows(rows.numpy()).features)
            found = found.view(-1, *store.shape)
            return (found if views == 1 else unit(found[:, :views])).to(self._device)

        return Unread(read, torch.tensor(rows, dtype=torch.int64), inner)

    def store(self, split: str, name: str, views: int = 1) -> Layer:
        """Where these rows lie: one view is the picture as it is.

        Raises:
            StoreError: there is no such store.
        """
        return layer_of(self._source, split, name, views if views > 1 else None)


def layers_read(reads: Reads, split: str, views: int) -> list[tuple[str, int]]:
    """The store layers that are read of a split, and in how many views of each picture.

    A support is of `train`, the others are queries: of these one layer is named for its views.
    """
    if split == VIEWED:
        return sorted({(store_layer(name), views) for name in reads.support})
    return sorted({(store_layer(n), views if n.endswith(VIEWS) else 1) for n in reads.query})


def views_of(layer: str, method: Method) -> int:
    """In how many views a method reads a layer of the pictures that it answers for."""
    return method.views if layer.endswith(VIEWS) else 1


def _nothing_of(store: Layer) -> _Held:
    place = np.full(store.rows, -1, np.int32)
    return _Held(place, torch.empty(0, *store.shape), torch.empty(0, *store.shape[:-1], 1))


def _read(store: Layer, rows: NDArray[np.int64], held: _Held, views: int) -> None:
    """Read rows of which none is held yet, and hold them too."""
    read = store.read_rows(rows, normalize=store.layer in UNIT and views == 1)
    first = len(held.vectors)
    held.place[rows] = np.arange(first, first + len(rows), dtype=np.int32)
    vectors = torch.from_numpy(read.features).view(len(rows), *store.shape)
    norm = torch.from_numpy(read.norm)[:, None]
    if views > 1:  # a store may have more of them
        vectors = vectors[:, :views].contiguous()
        norm = vectors.norm(dim=-1, keepdim=True)
        vectors = unit(vectors) if store.layer in UNIT else vectors
    held.vectors = torch.cat([held.vectors, vectors]) if first else vectors
    held.norm = torch.cat([held.norm, norm]) if first else norm
