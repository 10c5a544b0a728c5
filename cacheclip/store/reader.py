"""Reading a store: one checked way, shard by shard into one array."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.files.disk import read_json, seal_agrees
from cacheclip.store import hdf5, shard
from cacheclip.store.folders import there
from cacheclip.store.header import Header, Keyed, read_header
from cacheclip.store.key import files_sha256, samples_sha256
from cacheclip.store.plan import read_plan
from cacheclip.store.schema import (
    DONE_FILE,
    DONE_FOLDER,
    FORMAT,
    IDS_FILE,
    PATCHES,
    Failure,
    ShardRecord,
    from_json,
)


class IncompleteStoreError(StoreError):
    """Some shards are not there yet, or too many pictures failed for the extraction to end.

    Attributes:
        done: finished shards.
        total: shards of the plan.
        failed: rows of the finished shards that have no vector.
    """

    def __init__(self, done: int, total: int, failed: int = 0, *, where: str, fix: str) -> None:
        what = f"incomplete: {done} of {total} shards done"
        super().__init__(what + (f", {failed} rows failed" if failed else ""), where=where, fix=fix)
        self.done = done
        self.total = total
        self.failed = failed


@dataclass(frozen=True)
class Features:
    """Vectors of one layer.

    Attributes:
        features: [n, D] float32; zeros where a row failed.
        norm: [n] float32, L2 norm of the encoder's vector, before rounding; 0 where a row failed.
        ok: [n] bool, False where a row failed.
    """

    features: NDArray[np.float32]
    norm: NDArray[np.float32]
    ok: NDArray[np.bool_]


@dataclass(frozen=True)
class Store(Keyed):
    """A complete store of image features. `Store.open` makes one.

    Attributes:
        path: its folder.
        header: its key.json.
        records: one a shard, in order.
    """

    path: Path
    header: Header
    records: tuple[ShardRecord, ...]

    @classmethod
    def open(cls, path: Path, home: str = "", header: Header | None = None) -> "Store":
        """Open a store without opening its shards: their sizes are checked, not their contents.

        Nor is the file of ids opened, which `check_ids` does.

        Args:
            path: its folder.
            home: `Home.option`, for the commands in error messages.
            header: its key.json, where that was read before.

        Raises:
            IncompleteStoreError: shards are missing that nobody has finished yet.
            StoreError: no store, not this format, or a file that is missing or of another size.
        """
        header = header or read_header(path, home)
        file, command = path / DONE_FILE, header.extract_command
        if not there(file):
            done, failed = _finished(path)
            total = _planned(path, header)
            raise IncompleteStoreError(done, total, failed, where=str(path), fix=command)
        content = read_json(file, command=command)
        try:
            records = _records(content, header)
        except (KeyError, TypeError, ValueError):
            why = "not the records of this store"
            raise hdf5.damaged(file, why, command) from None
        store = cls(path, header, records)
        for record in records:
            store._check_size(record)
        store._ids_path()
        return store

    @property
    def layer(self) -> str:
        """One of `LAYERS`."""
        return str(self.key["layer"])

    @property
    def views(self) -> int | None:
        """How many views of each picture it has side by side; None where it has the picture."""
        views = self.key["views"]
        return None if views is None else int(views["n"])

    @property
    def is_plain(self) -> bool:
        """Whether these are the image features of the pictures as they are."""
        return self.layer == "image" and self.views is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what a row holds, as one vector: [D], [W, D] of W views, [P, D] of P parts."""
        if self.layer == PATCHES:
            width = int(self.key["encoder"]["embed_dim"])
            return self.dim // width, width
        return (self.dim,) if self.views is None else (self.views, self.dim // self.views)

    @property
    def rows(self) -> int:
        """Rows, failed ones included."""
        return _rows(self.records)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.records[0].dim

    @property
    def failed(self) -> int:
        """Rows without a vector."""
        return sum(record.failed for record in self.records)

    @property
    def bytes(self) -> int:
        """Size of the shards on disk."""
        return sum(record.bytes for record in self.records)

    @property
    def extract_command(self) -> str:
        """The command line that completes or repairs this store."""
        return self.header.extract_command

    def ids(self) -> list[str]:
        """The sample ids, in row order.

        Raises:
            StoreError: the file of ids is missing or damaged.
        """
        with self._ids_file() as file:
            return self._ids(file)

    def stamps(self) -> list[str] | None:
        """What each sample's file was known by when it was encoded; None if by its id alone.

        Raises:
            StoreError: the file of ids is missing or damaged.
        """
        with self._ids_file() as file:
            return self._stamps(file)

    def check_ids(self) -> None:
        """See that ids and stamps are those of the key.

        Raises:
            StoreError: the file of ids is missing or damaged.
        """
        with self._ids_file() as file:
            ids, stamps = self._ids(file), self._stamps(file)
            wanted = self.key["data"]["files_sha256"]
            if (None if stamps is None else files_sha256(ids, stamps)) != wanted:
                raise hdf5.ContentError("its stamps are not those of the key")

    def failures(self) -> list[Failure]:
        """The rows that have no vector, and why.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        found = []
        for record in self.records:
            if record.failed:
                with self._shard(record) as file:
                    found += shard.read_failures(file, record)
        return found

    def load(self, *, normalize: bool = True) -> Features:
        """Read all rows, every byte checked.

        Args:
            normalize: give unit vectors; raw ones otherwise.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        return self._read(np.arange(self.rows), normalize=normalize)

    def read_rows(
        self, rows: Sequence[int] | NDArray[np.int64], *, normalize: bool = False
    ) -> Features:
        """Read some rows in the order given: the chunks that hold them, and no others.

        Args:
            rows: which; one may stand there more than once.
            normalize: give unit vectors; raw ones otherwise.

        Raises:
            StoreError: one of their shards is missing or damaged.
        """
        wanted = np.asarray(rows, np.int64)
        ordered, place = np.unique(wanted, return_inverse=True)
        found = self._read(ordered, normalize=normalize)
        if np.array_equal(wanted, ordered):
            return found
        return Features(found.features[place], found.norm[place], found.ok[place])

    def _read(self, rows: NDArray[np.int64], *, normalize: bool) -> Features:
        """Rows in ascending order, each once."""
        if len(rows) and not 0 <= rows[0] <= rows[-1] < self.rows:
            raise IndexError(f"rows {rows[0]} to {rows[-1]} of {self.rows}")
        features = np.empty((len(rows), self.dim), np.float32)
        norm = np.empty(len(rows), np.float32)
        ok = np.empty(len(rows), np.bool_)
        most = max(record.rows for record in self.records)
        buffer = np.empty((most, self.dim), self.key["store"]["dtype"])
        last = 0
        for record in self.records:
            first, last = last, int(np.searchsorted(rows, record.first + record.rows))
            here = slice(first, last)
            if first < last:
                with self._shard(record) as file:
                    norm[here], ok[here] = shard.read_rows(
                        file,
                        record,
                        rows[here] - record.first,
                        buffer,
                        features[here],
                        normalize=normalize,
                    )
        return Features(features, norm, ok)

    @contextmanager
    def _shard(self, record: ShardRecord) -> Iterator[h5py.File]:
        path = self._check_size(record)
        with hdf5.checked(path, self.extract_command) as file:
            shard.check_header(file, record, self.digest, record.content_sha256)
            yield file

    @contextmanager
    def _ids_file(self) -> Iterator[h5py.File]:
        with hdf5.checked(self._ids_path(), self.extract_command) as file:
            if hdf5.attribute(file, "key_digest") != self.digest:
                raise hdf5.ContentError("it is of another store")
            yield file

    def _ids(self, file: h5py.File) -> list[str]:
        ids = shard.read_texts(file, "id", self.rows)
        if samples_sha256(ids) != self.key["data"]["samples_sha256"]:
            raise hdf5.ContentError("its ids are not those of the key")
        return ids

    def _stamps(self, file: h5py.File) -> list[str] | None:
        return shard.read_texts(file, "stamp", self.rows) if hdf5.has(file, "stamp_off") else None

    def _ids_path(self) -> Path:
        path = self.path / IDS_FILE
        if not there(path):
            raise StoreError(
                "the file of sample ids is missing", where=str(path), fix=self.extract_command
            )
        return path

    def _check_size(self, record: ShardRecord) -> Path:
        path = self.path / record.file
        if not there(path):
            raise StoreError(
                "a shard of this store is missing", where=str(path), fix=self.extract_command
            )
        size = path.stat().st_size
        if size != record.bytes:
            why = f"{size:,} bytes, not {record.bytes:,}"
            raise hdf5.damaged(path, why, self.extract_command)
        return path


def _finished(path: Path) -> tuple[int, int]:
    """How many shards of an incomplete store are done, and how many of their rows failed."""
    files = list((path / DONE_FOLDER).glob("*.json"))
    failed = 0
    for file in files:
        try:
            failed += from_json(ShardRecord, read_json(file)).failed
        except (FileNotFoundError, StoreError, TypeError):
            continue  # being written, or broken: the next extraction sees to it
    return len(files), failed


def _planned(path: Path, header: Header) -> int:
    """How many shards the store will have; 0 if no plan was made yet.

    Raises:
        StoreError: the plan is damaged, or may not be read.
    """
    try:
        plan = read_plan(path, header.key, header.extract_command)
    except FileNotFoundError:
        return 0
    return len(plan.shards(header.key["data"]["samples"]))


def _records(content: Any, header: Header) -> tuple[ShardRecord, ...]:
    """The records of a complete store, which must agree with each other and with its key.

    Raises:
        KeyError, TypeError, ValueError: they do not.
    """
    records = tuple(from_json(ShardRecord, record) for record in content["shards"])
    itemsize = np.dtype(header.key["store"]["dtype"]).itemsize
    sound = all(
        record.rows > 0
        and 0 < record.dim == records[0].dim
        and 0 <= record.failed <= record.rows
        and record.rows * record.dim * itemsize <= record.bytes
        for record in records
    )
    told = [content[name] for name in ("format", "key_digest", "rows", "dim", "failed")]
    failed = sum(record.failed for record in records)
    if (
        seal_agrees(content) is False
        or not sound
        or [record.id for record in records] != list(range(len(records)))
        or [record.first for record in records] != _starts(records)
        or _rows(records) != header.key["data"]["samples"]
        or told != [FORMAT, header.digest, _rows(records), records[0].dim, failed]
    ):
        raise ValueError("not the records of this store")
    return records


def _rows(records: Sequence[ShardRecord]) -> int:
    return sum(record.rows for record in records)


def _starts(records: Sequence[ShardRecord]) -> list[int]:
    return list(accumulate((record.rows for record in records[:-1]), initial=0))
