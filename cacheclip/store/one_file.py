"""Stores of one HDF5 file: opened by its record, published whole, the record last."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from cacheclip.errors import StoreError
from cacheclip.files.disk import publish_bytes, publish_json, read_json, sealed, sweep
from cacheclip.files.locks import lock
from cacheclip.files.refusals import RefusedError
from cacheclip.store import hdf5
from cacheclip.store.folders import there
from cacheclip.store.header import Header, Keyed, publish_header, read_header
from cacheclip.store.key import Key
from cacheclip.store.reader import IncompleteStoreError
from cacheclip.store.schema import DONE_FILE, FORMAT, LOCK_FILE, STAGING_FOLDER


class FileRecord(Protocol):
    """What done.json says of the file of such a store, beside what the kind of store adds."""

    @property
    def key_digest(self) -> str:
        """Digest of the store's key."""

    @property
    def bytes(self) -> int:
        """Size of the file."""

    @property
    def sha256(self) -> str:
        """Of the file."""

    @property
    def content_sha256(self) -> str:
        """Of the arrays in it."""


Record = TypeVar("Record", bound=FileRecord)


@dataclass(frozen=True)
class OneFileStore(Keyed, Generic[Record]):
    """A complete store of one file. `open` of its kind makes one.

    Class attributes:
        file: name of the file.
        holds: what it holds, in words.

    Attributes:
        path: its folder.
        header: its key.json.
        record: its done.json.
    """

    file: ClassVar[str]
    holds: ClassVar[str]

    path: Path
    header: Header
    record: Record

    @staticmethod
    @abstractmethod
    def parsed(content: Any, header: Header) -> Any:
        """The record that done.json holds.

        Raises:
            KeyError, TypeError, ValueError: it is not one of this store.
        """

    @classmethod
    def open(cls, path: Path, home: str = "") -> Self:
        """Open a store without reading its file.

        Args:
            path: its folder.
            home: `Home.option`, for the commands in error messages.

        Raises:
            IncompleteStoreError: it was begun and not finished.
            StoreError: no store, not this format, or its file is missing or of another size.
        """
        header = read_header(path, home)
        done, file, command = path / DONE_FILE, path / cls.file, header.extract_command
        if not there(done):
            raise IncompleteStoreError(0, 1, where=str(path), fix=command)
        content = read_json(done, command=command)
        try:
            record = cls.parsed(content, header)
            if record.key_digest != header.digest:
                raise ValueError("the record of another store")
        except (KeyError, TypeError, ValueError):
            raise hdf5.damaged(done, "not the record of this store", command) from None
        if not there(file):
            raise StoreError(f"the file of {cls.holds} is missing", where=str(file), fix=command)
        size = file.stat().st_size
        if size != record.bytes:
            raise hdf5.damaged(file, f"{size:,} bytes, not {record.bytes:,}", command)
        return cls(path, header, record)

    @classmethod
    def whole(cls, path: Path, home: str) -> Self | None:
        """The store, or None where it is not there or not whole and is to be written anew.

        Raises:
            RefusedError: the system does not give it; it may be well.
        """
        try:
            return cls.open(path, home)
        except RefusedError:
            raise
        except StoreError:
            return None


def write_one(
    path: Path,
    name: str,
    key: Key,
    arrays: hdf5.Arrays,
    record: Callable[[dict[str, Any]], Any],
    *,
    info: Mapping[str, Any],
    home: str,
) -> None:
    """Write the store of one file of a key unless it is there.

    Args:
        path: its folder.
        name: of its file.
        key: what decides it.
        arrays: what the file holds.
        record: makes the record, a dataclass, of the fields of `FileRecord`.
        info: what people may want to know.
        home: `Home.option`.

    Raises:
        StoreError: the disk refuses, or another process writes here.
    """
    content = hdf5.content_sha256(arrays)
    staging = path / STAGING_FOLDER
    with lock(path / LOCK_FILE):
        sweep(staging)
        header = publish_header(path, key, info, home)
        if (path / DONE_FILE).exists() and (path / name).exists():
            return
        attributes: dict[str, int | str] = {
            "format": FORMAT,
            "key_digest": header.digest,
            "content_sha256": content,
        }
        image = hdf5.file_image(arrays, attributes)
        made = record(
            {
                "key_digest": header.digest,
                "bytes": len(image),
                "sha256": hashlib.sha256(image).hexdigest(),
                "content_sha256": content,
            }
        )
        (path / DONE_FILE).unlink(missing_ok=True)
        publish_bytes(path / name, image, staging=staging)
        publish_json(path / DONE_FILE, sealed(asdict(made)), staging=staging)
