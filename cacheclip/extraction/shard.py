"""One split through the encoder, shard by shard, all layers in one pass."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cacheclip.datasets.base import DataSet
from cacheclip.datasets.images import Reading
from cacheclip.errors import MachineError
from cacheclip.extraction.decode import picture_reader, regions_reader
from cacheclip.extraction.passes import Pass
from cacheclip.extraction.reuse import Reusable
from cacheclip.extraction.threads import in_order
from cacheclip.store.schema import NONFINITE, Failure, ShardSpec
from cacheclip.store.writer import ImageStoreWriter

if TYPE_CHECKING:
    from torch import Tensor

Writers = Mapping[str, ImageStoreWriter]


class SplitEncoder:
    """Fills the stores of one split.

    The batch is the plan's, starts at a shard's first row and is padded at its end, so that a
    shard's bytes do not depend on where an earlier run was cut off.
    """

    def __init__(
        self,
        dataset: DataSet,
        split: str,
        reading: Reading,
        way: Pass,
        writers: Writers,
        reusable: Reusable,
        at_once: int,
        advance: Callable[[int], None],
    ) -> None:
        """Prepare only.

        Args:
            dataset: where the pictures come from.
            split: which of its splits.
            reading: how its pictures are read.
            way: gives all layers of `writers`.
            writers: one a layer, entered, with the same shards.
            reusable: rows that are copied instead.
            at_once: batches that are encoded side by side.
            advance: called with a number of pictures that are finished.
        """
        self._way = way
        self._writers = writers
        self._reusable = reusable
        self._at_once = at_once
        self._advance = advance
        self._batch = next(iter(writers.values())).encode_batch
        of = regions_reader if way.many_of_one else picture_reader
        self._read = of(dataset, split, way.pixels, reading)
        self.encoded = 0
        self.copied = 0

    @property
    def missing(self) -> list[ShardSpec]:
        """The shards that one of the stores lacks, in order."""
        missing = {spec.id: spec for writer in self._writers.values() for spec in writer.missing}
        return [missing[number] for number in sorted(missing)]

    def shards(self) -> Iterator[list[Failure]]:
        """Encode and publish each missing shard; give its failures once it is there."""
        todo = self.missing
        # Decoding runs on beyond the end of a shard, so that the encoder need not wait there.
        stream = self._stream([row for spec in todo for row in self._to_encode(spec)])
        try:
            for spec in todo:
                yield self._shard(spec, stream)
        finally:
            stream.close()

    def failures(self) -> list[Failure]:
        """The failures of the finished shards, those of earlier runs included."""
        finished = self._writers[self._way.layers[0]].finished
        return [] if finished is None else finished.failures()

    def unread(self) -> list[Failure]:
        """Read the pictures of the missing shards, encode none, and give those that failed."""
        rows = [row for spec in self.missing for row in self._to_encode(spec)]
        return [item for item in self._stream(rows) if isinstance(item, Failure)]

    def retry(self, *, every: bool) -> None:
        """Encode failed pictures of finished shards anew, and put those that succeed in place.

        Without `every` only those that not all layers lack: a retry was cut off between two.

        Until all of them are encoded nothing is touched; then only shards that gain a row are
        written anew, their other rows as they were.
        """
        finished = {layer: writer.finished for layer, writer in self._writers.items()}
        stores = {layer: store for layer, store in finished.items() if store is not None}
        failed = {
            layer: {failure.row: failure for failure in store.failures()}
            for layer, store in stores.items()
        }
        rows = sorted(set().union(*failed.values()))
        if not every:
            unread = {row for spec in self.missing for row in _rows(spec)}
            lacking = set.intersection(*(set(own) for own in failed.values())) if failed else set()
            rows = sorted(set(rows) - lacking - unread)
        if not rows:
            return
        vectors, failures = self._vectors(rows, self._stream(rows), advance=lambda pictures: None)
        mended = {row: place for place, row in enumerate(rows)}
        for failure in failures:
            del mended[failure.row]
        for layer, own in failed.items():
            writer = self._writers[layer]
            for spec in writer.shards:
                here = [row for row in mended if row in own and row in _rows(spec)]
                if here:
                    old = stores[layer].read_rows(_rows(spec))
                    places = np.array(here) - spec.first
                    old.features[places] = vectors[layer][[mended[row] for row in here]]
                    old.norm[places] = np.nan
                    still = [own[row] for row in own if row in _rows(spec) and row not in mended]
                    writer.replace(spec, old.features, still, norm=old.norm)
            if not writer.missing:
                writer.finish()
        self.encoded += len(mended)

    def _stream(self, rows: Sequence[int]) -> Generator["Tensor | Failure", None, None]:
        """Decode ahead in threads: Pillow lets go of the GIL."""
        return in_order(self._read, rows, threads=os.cpu_count() or 1, ahead=2 * self._batch)

    def _to_encode(self, spec: ShardSpec) -> list[int]:
        return [row for row in _rows(spec) if row not in self._reusable.rows]

    def _shard(self, spec: ShardSpec, stream: Iterator["Tensor | Failure"]) -> list[Failure]:
        rows = self._to_encode(spec)
        vectors, failures = self._vectors(rows, stream, advance=self._advance)
        features = {layer: _empty(spec, part) for layer, part in vectors.items()}  # [n, D]
        for layer, part in vectors.items():
            features[layer][np.array(rows) - spec.first] = part
        copied = sorted(set(_rows(spec)).difference(rows))
        norms = self._copy(spec, copied, features)
        failed = len(failures)
        for layer, writer in self._writers.items():
            if spec in writer.missing:
                record = writer.write(spec, features[layer], failures, norm=norms.get(layer))
                failed = max(failed, record.failed)
        self.encoded += len(rows) - failed
        return failures

    def _vectors(
        self,
        rows: Sequence[int],
        stream: Iterator["Tensor | Failure"],
        *,
        advance: Callable[[int], None],
    ) -> tuple[dict[str, NDArray[np.float32]], list[Failure]]:
        """Each layer's vectors [k, D] of k rows, and which of these have none; {} of no rows."""
        parts: dict[str, list[NDArray[np.float32]]] = {}
        failures: list[Failure] = []
        batches = self._batches(rows, stream, failures)
        for part, encoded in in_order(
            self._encode, batches, threads=self._at_once, ahead=self._at_once
        ):
            for layer, vectors in encoded.items():
                parts.setdefault(layer, []).append(vectors)
            failures += _not_finite(part, encoded, failures)
            advance(len(part))
        return {layer: np.concatenate(vectors) for layer, vectors in parts.items()}, failures

    def _batches(
        self, rows: Sequence[int], stream: Iterator["Tensor | Failure"], failures: list[Failure]
    ) -> Iterator[tuple[Sequence[int], "Tensor"]]:
        """Padded batches, [B, ..., 3, H, W]; a picture that failed is a black one here."""
        import torch

        for first in range(0, len(rows), self._batch):
            part = rows[first : first + self._batch]
            pixels = torch.zeros(self._batch, *self._way.shape)
            for place, item in enumerate(islice(stream, len(part))):
                if isinstance(item, Failure):
                    failures.append(item)
                else:
                    pixels[place] = item
            yield part, pixels

    def _encode(
        self, batch: tuple[Sequence[int], "Tensor"]
    ) -> tuple[Sequence[int], dict[str, NDArray[np.float32]]]:
        import torch

        rows, pixels = batch
        try:
            encoded = self._way.encode(pixels)
        except torch.OutOfMemoryError as error:
            raise MachineError(
                f"the GPU has no room for a batch of {self._batch * self._way.at_once} pictures",
                where=self._way.device,
                fix=f"--batch-size {max(1, self._batch * self._way.at_once // 2)}",
            ) from error
        return rows, {layer: vectors[: len(rows)] for layer, vectors in encoded.items()}

    def _copy(
        self, spec: ShardSpec, rows: Sequence[int], features: dict[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Put copied rows into `features`; give the norms to keep, NaN where rows were encoded."""
        norms: dict[str, NDArray[np.float32]] = {}
        if not rows:
            return norms
        here = np.array(rows) - spec.first
        for layer in self._writers:
            vectors, norm = self._reusable.copy(layer, rows)
            features.setdefault(layer, _empty(spec, vectors))[here] = vectors
            norms[layer] = np.full(spec.rows, np.nan, np.float32)
            norms[layer][here] = norm
        self.copied += len(rows)
        self._advance(len(rows))
        return norms


def _not_finite(
    rows: Sequence[int], encoded: Mapping[str, NDArray[np.float32]], known: Sequence[Failure]
) -> list[Failure]:
    """Rows whose vectors overflowed in the encoder, unless they are known to have failed."""
    finite = np.logical_and.reduce([np.isfinite(each).all(axis=1) for each in encoded.values()])
    failed = {failure.row for failure in known}
    return [
        Failure(row, NONFINITE, "the encoder's vector is not finite")
        for row in np.array(rows)[~finite].tolist()
        if row not in failed
    ]


def _rows(spec: ShardSpec) -> range:
    return range(spec.first, spec.first + spec.rows)


def _empty(spec: ShardSpec, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros((spec.rows, vectors.shape[1]), np.float32)
