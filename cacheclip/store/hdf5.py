"""One HDF5 file of a store: its bytes, and how they are read with nothing taken on trust.

Every data set carries fletcher32, every header of format v110 has a checksum of its own, and
strings are bytes and offsets, for HDF5 leaves variable-length strings unprotected. So a flipped bit
is an error or changes nothing.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.files.disk import DamagedError, repair
from cacheclip.files.refusals import unreadable

Arrays = Mapping[str, NDArray[Any]]

# Newer formats cannot be opened by HDF5 1.12, older ones have headers without checksums.
_LIBVER = ("v110", "v110")
_CHUNK_BYTES = 1 << 20
_SYSTEM_SAID = re.compile(r"\berrno = (\d+)")
_H5PY = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError)


class ContentError(Exception):
    """A file does not hold what it should; `checked` says which, and what makes it anew."""


def file_image(arrays: Arrays, attributes: Mapping[str, int | str]) -> bytes:
    """The bytes of an HDF5 file: a function of its contents alone, made in memory.

    Args:
        arrays: the data sets. What has two axes or more is cut into chunks of about 1 MiB of whole
            rows, the rest is one chunk each.
        attributes: numbers and texts about the file as a whole.
    """
    # With the core driver and no backing store the name is only a label.
    with h5py.File("image", "w", driver="core", backing_store=False, libver=_LIBVER) as file:
        for name, array in sorted(arrays.items()):
            file.create_dataset(
                name, data=array, chunks=_chunks(array), fletcher32=True, track_times=False
            )
        for name, value in sorted(attributes.items()):
            file.attrs[name] = np.bytes_(value) if isinstance(value, str) else np.int64(value)
        file.flush()
        return bytes(file.id.get_file_image())


def content_sha256(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and bytes of the arrays in name order."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def packed(name: str, texts: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Texts as two arrays, `name_blob` uint8 and `name_off` int64 [n + 1]."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    blob = b"".join(encoded) or b"\0"  # HDF5 has no chunks of nothing
    return {f"{name}_blob": np.frombuffer(blob, np.uint8), f"{name}_off": offsets}


def unpacked(blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[str]:
    """The texts that `packed` took.

    Raises:
        ContentError: they are no texts.
    """
    data = blob.tobytes()
    try:
        return [data[a:b].decode() for a, b in pairwise(offsets.data)]
    except UnicodeDecodeError as error:
        raise ContentError(str(error)) from error


@contextmanager
def checked(path: Path, command: str) -> Iterator[h5py.File]:
    """Open a published file for reading, by the functions of this module.

    What they find wrong, and a `ContentError` of whoever reads, becomes an error that names the
    file. Any other exception of the block says nothing of the file and passes.

    Args:
        path: the file.
        command: what makes it anew once it is not there.

    Raises:
        DamagedError: the file is damaged.
        RefusedError: the system does not give it, or has no memory for it; it may be well.
        StoreError: it is missing.
    """
    try:
        file = _opened(path)
        try:
            yield file
        finally:
            _close(file)
    except _RefusedError as refusal:
        if refusal.number == errno.ENOENT:
            what = "a file of this store is missing"
            raise StoreError(what, where=str(path), fix=command) from None
        said = OSError(refusal.number, os.strerror(refusal.number))
        raise unreadable(said, path) from refusal
    except ContentError as error:
        raise damaged(path, str(error), command) from error


class _RefusedError(Exception):
    """The number with which the system refused a call of h5py."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _h5py() -> Iterator[None]:
    """Tell what is wrong with a file from what the system refuses, around calls of h5py alone."""
    try:
        yield
    except MemoryError as error:
        raise _RefusedError(errno.ENOMEM) from error
    except _H5PY as error:
        if (number := _errno(error)) is not None:
            raise _RefusedError(number) from error
        raise ContentError(str(error)) from error


@_h5py()
def _opened(path: Path) -> h5py.File:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ContentError("not a regular file")  # opening a pipe would never end
    # Nothing under a final name is ever written to, so no lock is needed; without the chunk
    # cache, bytes go straight into the caller's array, which halves the time.
    return h5py.File(path, "r", locking=False, rdcc_nbytes=0)


@_h5py()
def _close(file: h5py.File) -> None:
    file.close()


def _errno(error: Exception) -> int | None:
    """What the system answered, which HDF5 tells in the middle of its own words, or not at all."""
    number = getattr(error, "errno", None)
    told = _SYSTEM_SAID.search(str(error))
    return number if number is not None or told is None else int(told[1])


def damaged(path: Path, why: str, command: str) -> DamagedError:
    """The error of a file that is not what was written.

    Args:
        path: the file.
        why: what is wrong with it.
        command: what makes it anew once it is not there.
    """
    first = why.strip().splitlines()[0] if why.strip() else "unreadable"
    return DamagedError(
        f"this file is damaged: {first}", where=str(path), fix=repair(path, command)
    )


@_h5py()
def read(file: h5py.File, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A whole data set, which must have this type and shape (-1: any length).

    Raises:
        ContentError: it has not.
    """
    data = expected(file, name, dtype, shape)
    return np.asarray(data[()])


@_h5py()
def read_all(file: h5py.File) -> dict[str, NDArray[Any]]:
    """Every data set of a file.

    Raises:
        ContentError: there is something else in it.
    """
    return {name: np.asarray(_own(file, name)[()]) for name in file}


@_h5py()
def expected(file: h5py.File, name: str, dtype: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A data set, unread, which must have this type and shape (-1: any length).

    Raises:
        ContentError: it has not, or is not wholly in the file.
    """
    data = _own(file, name)
    same = len(data.shape) == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, data.shape, strict=True)
    )
    if data.dtype != np.dtype(dtype) or not same:
        raise ContentError(f"{name} is {data.dtype} {data.shape}, not {dtype} {shape}")
    return data


def _own(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set whose bytes lie in this very file, checksummed and as many as its shape says.

    A link may lead to any file of the machine, a few bytes may declare more than the memory holds,
    and what was never written reads as zeros.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ContentError(f"{name} is missing, or a link")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise ContentError(f"{name} does not lie in this file")
    if not data.fletcher32 or data.compression is not None:
        raise ContentError(f"{name} is not stored as it was written")
    if not data.nbytes <= data.id.get_storage_size() <= file.id.get_filesize():
        raise ContentError(f"{name} is declared larger than it is")
    return data


@_h5py()
def has(file: h5py.File, name: str) -> bool:
    """Whether there is something of this name."""
    return file.get(name, getlink=True) is not None


@_h5py()
def read_into(buffer: NDArray[Any], data: h5py.Dataset, rows: Iterable[slice]) -> None:
    """Read these rows of a data set to the same rows of a buffer."""
    for part in rows:
        data.read_direct(buffer, part, part)


@_h5py()
def attribute(file: h5py.File, name: str) -> int | str:
    """A number or text that `file_image` was given.

    Raises:
        ContentError: there is none.
    """
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else int(value)


def _chunks(array: NDArray[Any]) -> tuple[int, ...]:
    if array.ndim < 2:
        return array.shape
    row_bytes = array[0].nbytes
    rows = max(1, min(len(array), _CHUNK_BYTES // row_bytes))
    return (rows, *array.shape[1:])
