"""One split through the encoder, shard by shard, all layers in one pass."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cacheclip.datasets.base import DataSet
from cacheclip.disk import lock, read_json
from cacheclip.encoders.base import Encoder
from cacheclip.errors import MachineError
from cacheclip.extract.decode import picture_reader
from cacheclip.extract.reuse import Reusable
from cacheclip.extract.threads import in_order
from cacheclip.store.key import read_header
from cacheclip.store.reader import Store
from cacheclip.store.schema import (
    DONE_FILE,
    DONE_FOLDER,
    LOCK_FILE,
    NONFINITE,
    PLAN_FILE,
    Failure,
    ShardRecord,
    ShardSpec,
)
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
        encoder: Encoder,
        writers: Writers,
        reusable: Reusable,
        at_once: int,
        advance: Callable[[int], None],
    ) -> None:
        """Prepare only.

        Args:
            dataset: where the pictures come from.
            split: which of its splits.
            encoder: gives all layers of `writers`.
            writers: one a layer, entered, with the same shards.
            reusable: rows that are copied instead.
            at_once: batches that are encoded side by side.
            advance: called with a number of pictures that are finished.
        """
        self._encoder = encoder
        self._writers = writers
        self._reusable = reusable
        self._at_once = at_once
        self._advance = advance
        self._batch = next(iter(writers.values())).encode_batch
        self._read = picture_reader(dataset, split, encoder.transform)
        self.encoded = 0
        self.copied = 0

    def shards(self) -> Iterator[list[Failure]]:
        """Encode and publish each missing shard; give its failures once it is there."""
        missing = {spec.id: spec for writer in self._writers.values() for spec in writer.missing}
        todo = [missing[number] for number in sorted(missing)]
        rows = [row for spec in todo for row in self._to_encode(spec)]
        # Pillow lets go of the GIL. Decoding runs on beyond the end of a shard, so that the encoder
        # need not wait there.
        stream = in_order(self._read, rows, threads=os.cpu_count() or 1, ahead=2 * self._batch)
        try:
            for spec in todo:
                yield self._shard(spec, stream)
        finally:
            stream.close()

    def _to_encode(self, spec: ShardSpec) -> list[int]:
        rows = range(spec.first, spec.first + spec.rows)
        return [row for row in rows if row not in self._reusable.rows]

    def _shard(self, spec: ShardSpec, stream: Iterator["Tensor | Failure"]) -> list[Failure]:
        rows = self._to_encode(spec)
        features: dict[str, NDArray[np.float32]] = {}
        failures: list[Failure] = []
        batches = self._batches(rows, stream, failures)
        for part, encoded in in_order(
            self._encode, batches, threads=self._at_once, ahead=self._at_once
        ):
            for layer, vectors in encoded.items():
                whole = features.setdefault(layer, _empty(spec, vectors))  # [rows, D]
                whole[np.array(part) - spec.first] = vectors
            failures += _not_finite(part, encoded, failures)
            self._advance(len(part))
        self.encoded += len(rows)
        copied = sorted(set(range(spec.first, spec.first + spec.rows)).difference(rows))
        norms = self._copy(spec, copied, features)
        for layer, writer in self._writers.items():
            if spec in writer.missing:
                writer.write(spec, features[layer], failures, norm=norms.get(layer))
        return failures

    def _batches(
        self, rows: Sequence[int], stream: Iterator["Tensor | Failure"], failures: list[Failure]
    ) -> Iterator[tuple[Sequence[int], "Tensor"]]:
        """Padded batches, [B, 3, H, W]; a picture that failed is a black one here."""
        import torch

        height, width = self._encoder.preprocess["size"]
        for first in range(0, len(rows), self._batch):
            part = rows[first : first + self._batch]
            pixels = torch.zeros(self._batch, 3, height, width)
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
            encoded = self._encoder.encode_images(pixels)
        except torch.OutOfMemoryError as error:
            raise MachineError(
                f"the GPU has no room for a batch of {self._batch} pictures",
                where=self._encoder.device,
                fix=f"--batch-size {max(1, self._batch // 2)}",
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


def _empty(spec: ShardSpec, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros((spec.rows, vectors.shape[1]), np.float32)


def finished_part(writer: ImageStoreWriter) -> Store:
    """The shards of an unfinished store that are there, to be read like a store."""
    missing = writer.missing
    records = [
        ShardRecord(**read_json(writer.path / spec.record))
        for spec in writer.shards
        if spec not in missing
    ]
    return Store(writer.path, read_header(writer.path), tuple(records))


def drop_unused_plans(stores: Iterable[Path]) -> None:
    """Forget the plans of an extraction's stores if none of them has a shard yet.

    Such plans bind nobody: whoever chose a batch that does not fit the GPU must be able to choose
    another. With one shard there, all of them hold.
    """
    begun = [path for path in stores if (path / PLAN_FILE).exists()]
    if any(True for path in begun for _ in path.glob("shard-*.h5")):
        return
    for path in begun:
        with lock(path / LOCK_FILE):
            (path / PLAN_FILE).unlink(missing_ok=True)


def withdraw_failed(path: Path) -> None:
    """Take back the shards in which a picture failed, so that they are missing again.

    Killed in between, this leaves shards that the next writer adopts, with their failures.
    """
    if not (path / DONE_FOLDER).exists():
        return
    with lock(path / LOCK_FILE):
        for file in sorted((path / DONE_FOLDER).glob("*.json")):
            record = ShardRecord(**read_json(file))
            if record.failed:
                (path / DONE_FILE).unlink(missing_ok=True)
                file.unlink()
                (path / record.file).unlink(missing_ok=True)
