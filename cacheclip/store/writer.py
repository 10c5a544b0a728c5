"""Writing a store: shard by shard, each wholly there or not there, the record of each last."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.files.disk import (
    DamagedError,
    publish_bytes,
    publish_json,
    read_json,
    sealed,
    sha256_file,
    sweep,
)
from cacheclip.files.locks import lock
from cacheclip.files.refusals import RefusedError, refusals
from cacheclip.store import hdf5, shard
from cacheclip.store.header import Header, publish_header, update_header
from cacheclip.store.key import Key, key_digest, samples_sha256
from cacheclip.store.plan import StorePlan, read_plan
from cacheclip.store.reader import Store
from cacheclip.store.schema import (
    DONE_FILE,
    FORMAT,
    IDS_FILE,
    LOCK_FILE,
    PLAN_FILE,
    ROWS_PER_SHARD,
    STAGING_FOLDER,
    Failure,
    ShardRecord,
    ShardSpec,
    from_json,
)


class ImageStoreWriter:
    """Fills the store of one key; a context manager that holds the store's lock.

    A store that was begun before goes on: its plan holds, whatever is asked for now, what a killed
    writer left unfinished is removed, and a shard that it published without a record is read in
    full and adopted. A shard's file is a function of key, plan and features alone.

    Attributes:
        rows_per_shard: of the plan that holds.
        encode_batch: of the plan that holds; batches start at a shard's first row and the last one
            is padded, or low bits of the features differ.
        shards: all shards of the plan.
        renewed: done records that were damaged, and were made anew from their shards.
    """

    def __init__(
        self,
        path: Path,
        key: Key,
        *,
        ids: Sequence[str],
        files: Sequence[str] | None = None,
        rows_per_shard: int = ROWS_PER_SHARD,
        encode_batch: int,
        info: Mapping[str, Any],
        home: str = "",
    ) -> None:
        """Prepare only; the folder is made and locked on entering.

        Args:
            path: the store's folder, from `Home.store_path`.
            key: from `image_key`.
            ids: sample ids in order, at least one.
            files: a stamp a sample, as the key's `files_sha256` was made of.
            rows_per_shard: rows a file.
            encode_batch: pictures that go through the encoder at once.
            info: what people may want to know: versions, device, `root` of the pictures.
            home: `Home.option`.
        """
        if not ids or samples_sha256(ids) != key["data"]["samples_sha256"]:
            raise ValueError("these are not the samples of the key")
        if files is not None and len(files) != len(ids):
            raise ValueError("not one stamp a sample")
        self.path = path
        self.key = key
        self.digest = key_digest(key)
        self.rows_per_shard = rows_per_shard
        self.encode_batch = encode_batch
        self.shards: tuple[ShardSpec, ...] = ()
        self.renewed = 0
        self._header = Header(key, self.digest, dict(info), home)
        self._ids = ids
        self._files = files
        self._info = info
        self._records: dict[int, ShardRecord] = {}
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(lock(self.path / LOCK_FILE))
            sweep(self._staging)
            self._begin()
            self._recover()
            self._held = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.close()

    @property
    def missing(self) -> list[ShardSpec]:
        """The shards that are not there yet, in order."""
        return [spec for spec in self.shards if spec.id not in self._records]

    def write(
        self,
        spec: ShardSpec,
        features: NDArray[np.float32],
        failures: Sequence[Failure] = (),
        *,
        norm: NDArray[np.float32] | None = None,
    ) -> ShardRecord:
        """Publish one missing shard, and its record after it.

        Args:
            spec: one of `missing`.
            features: [n, D] float32, as the encoder gave them.
            failures: rows that could not be read or encoded, by their place in the store.
            norm: [n] float32, norms to keep where rows come from another store, NaN elsewhere.

        Raises:
            StoreError: the disk is full or refuses the file.
        """
        if spec not in self.missing:
            raise ValueError(f"shard {spec.id} is not missing")
        data, record = self._rounded(spec, features, failures, norm)
        try:
            publish_bytes(self.path / spec.file, data, exclusive=True, staging=self._staging)
        except FileExistsError:
            # Where locks do not reach (some network disks), another writer was first; the record
            # must be that of the file which is there.
            record = self._verified(spec)
        self._read_back(spec, record)
        self._note(spec, record)
        return record

    def replace(
        self,
        spec: ShardSpec,
        features: NDArray[np.float32],
        failures: Sequence[Failure],
        *,
        norm: NDArray[np.float32],
    ) -> ShardRecord:
        """Publish a finished shard anew, in place of the one that is there.

        Killed at any moment, this leaves one of the two, whole; `finish` must come after it.

        Args:
            spec: one of `shards` that is not missing.
            features: [n, D] float32, as for `write`.
            failures: rows that still have no vector, by their place in the store.
            norm: [n] float32, norms to keep of the rows that stay, NaN elsewhere.

        Raises:
            StoreError: the disk is full or refuses the file.
        """
        if spec.id not in self._records:
            raise ValueError(f"shard {spec.id} is missing")
        data, record = self._rounded(spec, features, failures, norm)
        self._drop(spec)  # a record must never be that of another file
        publish_bytes(self.path / spec.file, data, staging=self._staging)
        self._read_back(spec, record)
        self._note(spec, record)
        return record

    @property
    def finished(self) -> Store | None:
        """The shards that are there, to be read like a store; None if there are none."""
        records = [self._records[spec.id] for spec in self.shards if spec.id in self._records]
        return Store(self.path, self._header, tuple(records)) if records else None

    def finish(self) -> Store:
        """Mark the store complete once no shard is missing, and open it."""
        if self.missing:
            raise ValueError(f"{len(self.missing)} shards are missing")
        records = [self._records[spec.id] for spec in self.shards]
        if not (self.path / DONE_FILE).exists():
            done = {
                "format": FORMAT,
                "key_digest": self.digest,
                "rows": len(self._ids),
                "dim": records[0].dim,
                "failed": sum(record.failed for record in records),
                "shards": [asdict(record) for record in records],
            }
            publish_json(self.path / DONE_FILE, sealed(done), staging=self._staging)
        self._header = update_header(self.path, self._header, self._info)
        return Store.open(self.path, self._header.home)

    @property
    def _staging(self) -> Path:
        return self.path / STAGING_FOLDER

    def _rounded(
        self,
        spec: ShardSpec,
        features: NDArray[np.float32],
        failures: Sequence[Failure],
        norm: NDArray[np.float32] | None,
    ) -> tuple[bytes, ShardRecord]:
        """The bytes of a shard's file and its record."""
        dims = {record.dim for record in self._records.values()} or {features.shape[1]}
        if features.dtype != np.float32 or features.shape != (spec.rows, *dims):
            raise ValueError(f"features are {features.dtype} {features.shape}")
        dtype = self.key["store"]["dtype"]
        rows = shard.rounded(features, failures, first=spec.first, dtype=dtype, norm=norm)
        return shard.shard_file(spec, rows, self._shard_ids(spec), self.digest)

    def _shard_ids(self, spec: ShardSpec) -> Sequence[str]:
        return self._ids[spec.first : spec.first + spec.rows]

    def _begin(self) -> None:
        """Write key, ids and plan, or take over those that are there."""
        self._header = publish_header(self.path, self.key, self._info, self._header.home)
        arrays = hdf5.packed("id", self._ids)
        if self._files is not None:
            arrays |= hdf5.packed("stamp", self._files)
        image = hdf5.file_image(arrays, {"format": FORMAT, "key_digest": self.digest})
        ids_file = self.path / IDS_FILE
        if not ids_file.is_file() or ids_file.read_bytes() != image:
            publish_bytes(ids_file, image, staging=self._staging)
        try:
            plan = read_plan(self.path, self.key, self._header.extract_command)
        except FileNotFoundError:
            plan = StorePlan(self.rows_per_shard, self.encode_batch)
            content = plan.content(self.key)
            publish_json(self.path / PLAN_FILE, content, staging=self._staging)
        self.rows_per_shard, self.encode_batch = plan.rows_per_shard, plan.encode_batch
        self.shards = plan.shards(len(self._ids))

    def _recover(self) -> None:
        """Find out which shards are there, whoever wrote them and however that ended."""
        for spec in self.shards:
            file = self.path / spec.file
            record = self._read_record(spec)
            if (
                record is not None
                and (record.id, record.first, record.rows) == (spec.id, spec.first, spec.rows)
                and file.exists()
                and file.stat().st_size == record.bytes
            ):
                self._records[spec.id] = record
                continue
            damaged = record is None and (self.path / spec.record).exists()
            self._drop(spec)
            if not file.exists():
                continue
            try:
                record = self._verified(spec)
            except DamagedError:
                file.unlink()  # it is encoded anew
            else:
                self._note(spec, record)
                self.renewed += damaged

    def _verified(self, spec: ShardSpec) -> ShardRecord:
        """The record of a shard's file, all of which is read."""
        ids, command = self._shard_ids(spec), self._header.extract_command
        return shard.verified(self.path / spec.file, spec, ids, self.digest, command)

    def _read_back(self, spec: ShardSpec, record: ShardRecord) -> None:
        """See that a disk gives the shard that it was given, before it counts as done."""
        file = self.path / spec.file
        with refusals(file):
            if sha256_file(file) == record.sha256:
                return
            file.unlink()
        raise StoreError(
            "the disk gave back other bytes than were written to it, so they were deleted",
            where=str(file),
            fix=f"look at the disk, then: {self._header.extract_command}",
        )

    def _drop(self, spec: ShardSpec) -> None:
        """Take back that the store is complete, and then that this shard is done."""
        (self.path / DONE_FILE).unlink(missing_ok=True)
        (self.path / spec.record).unlink(missing_ok=True)

    def _read_record(self, spec: ShardSpec) -> ShardRecord | None:
        try:
            return from_json(ShardRecord, read_json(self.path / spec.record))
        except RefusedError:
            raise  # nor could the shard be read
        except (FileNotFoundError, StoreError, TypeError):
            return None  # the shard itself has the last word

    def _note(self, spec: ShardSpec, record: ShardRecord) -> None:
        publish_json(self.path / spec.record, sealed(asdict(record)), staging=self._staging)
        self._records[spec.id] = record


def drop_unused_plans(stores: Iterable[Path]) -> None:
    """Forget the plans of stores that belong together if none of them has a shard yet.

    Such plans bind nobody: whoever chose a batch that does not fit the GPU must be able to choose
    another. With one shard there, all of them hold.

    Args:
        stores: folders of stores, all those of one extraction; some may not be there.

    Raises:
        StoreError: somebody else is writing to one of them.
    """
    begun = [path for path in stores if (path / PLAN_FILE).exists()]
    if any(True for path in begun for _ in path.glob("shard-*.h5")):
        return
    for path in begun:
        with lock(path / LOCK_FILE):
            (path / PLAN_FILE).unlink(missing_ok=True)
