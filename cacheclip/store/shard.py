"""One shard: from encoder output to the bytes of its file, and from the file back to arrays."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cacheclip.store import hdf5
from cacheclip.store.schema import (
    FAILURE_CODES,
    FORMAT,
    NONFINITE,
    NORM_TOLERANCE,
    Failure,
    ShardRecord,
    ShardSpec,
    cut,
)

BLOCK = 2048  # rows that stay in the processor's cache while they are worked on
SQUARES = 2**22  # in memory at once


@dataclass(frozen=True)
class Rows:
    """The rows of a shard as they are stored.

    Attributes:
        features: [n, D] float16 or float32, as the encoder gave them; zeros where a row failed.
        norm: [n] float32, L2 norm of the encoder's fp32 vector, before rounding.
        ok: [n] bool, False where a row failed.
        failures: why, in row order.
    """

    features: NDArray[Any]
    norm: NDArray[np.float32]
    ok: NDArray[np.bool_]
    failures: tuple[Failure, ...]


def rounded(
    features: NDArray[np.float32],
    failures: Sequence[Failure],
    *,
    first: int,
    dtype: str,
    norm: NDArray[np.float32] | None = None,
) -> Rows:
    """Round vectors to the stored type; one that the type cannot hold becomes a failure.

    Args:
        features: [n, D] float32.
        failures: rows that have no vector; what `features` holds there does not matter.
        first: position in the store of the first row.
        dtype: the stored type.
        norm: [n] float32, norms to keep where rows come from another store, NaN elsewhere.
    """
    reasons = {failure.row: failure for failure in reversed(failures)}
    if not all(first <= row < first + len(features) for row in reasons):
        raise ValueError("a failure lies outside the shard")
    if not all(failure.code in FAILURE_CODES for failure in failures):
        raise ValueError("no such failure code")
    vectors = features.copy()
    vectors[[row - first for row in reasons]] = 0
    with np.errstate(over="ignore"):  # an overflow is found below
        stored = vectors.astype(dtype)
    norms = lengths(vectors)
    if norm is not None:
        norms = np.where(np.isnan(norm), norms, norm)
    with np.errstate(invalid="ignore"):
        held = np.abs(lengths(stored) - norms) <= NORM_TOLERANCE / 2 * norms
    ok = held & (norms > 0)
    for row in (first + np.flatnonzero(~ok)).tolist():
        if row not in reasons:
            finite = np.isfinite(vectors[row - first]).all()
            why = f"a vector that {dtype} cannot hold" if finite else "a vector that is not finite"
            reasons[row] = Failure(row, NONFINITE, why)
    stored[~ok] = 0
    norms[~ok] = 0
    return Rows(stored, norms, ok, tuple(reasons[row] for row in sorted(reasons)))


def shard_file(
    spec: ShardSpec, rows: Rows, ids: Sequence[str], key_digest: str
) -> tuple[bytes, ShardRecord]:
    """The bytes of a shard's file and its record: functions of the arguments alone."""
    arrays: dict[str, NDArray[Any]] = {
        "features": rows.features,
        "norm": rows.norm,
        "ok": rows.ok.astype(np.uint8),
        "row": np.arange(spec.first, spec.first + spec.rows, dtype=np.int64),
        **hdf5.packed("id", ids),
    }
    if rows.failures:
        arrays["bad_row"] = np.array([failure.row for failure in rows.failures], np.int64)
        arrays |= hdf5.packed("bad_code", (failure.code for failure in rows.failures))
        arrays |= hdf5.packed("bad_text", (cut(failure.text) for failure in rows.failures))
    content = hdf5.content_sha256(arrays)
    attributes: dict[str, int | str] = {
        "format": FORMAT,
        "key_digest": key_digest,
        "shard": spec.id,
        "first": spec.first,
        "rows": spec.rows,
        "content_sha256": content,
    }
    data = hdf5.file_image(arrays, attributes)
    record = ShardRecord(
        id=spec.id,
        first=spec.first,
        rows=spec.rows,
        dim=rows.features.shape[1],
        failed=len(rows.failures),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        content_sha256=content,
    )
    return data, record


def verified(
    path: Path, spec: ShardSpec, ids: Sequence[str], key_digest: str, command: str
) -> ShardRecord:
    """The record of a published shard that has none, after reading all of it.

    Args:
        path: its file.
        spec: what it should be.
        ids: the ids of its samples.
        key_digest: of its store.
        command: what makes it anew.

    Raises:
        StoreError: the file is not this shard, whole and unchanged.
    """
    with hdf5.checked(path, command) as file:
        arrays = hdf5.read_all(file)
        content = hdf5.content_sha256(arrays)
        check_header(file, spec, key_digest, content)
        if read_texts(file, "id", spec.rows) != list(ids):
            raise hdf5.ContentError("its sample ids are not the plan's")
        norm = hdf5.read(file, "norm", "float32", (spec.rows,))
        ok = hdf5.read(file, "ok", "uint8", (spec.rows,))
        failed = int((~good_rows(norm, ok, spec.first)).sum())
        features = arrays.get("features")
        if features is None or features.ndim != 2:
            raise hdf5.ContentError("it holds no vectors")
        dim = features.shape[1]
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return ShardRecord(spec.id, spec.first, spec.rows, dim, failed, len(data), sha256, content)


def check_header(
    file: h5py.File, spec: ShardSpec | ShardRecord, key_digest: str, content_sha256: str
) -> None:
    """Hold the file's attributes against what it should be.

    Raises:
        ContentError: it is another file.
    """
    wanted: dict[str, int | str] = {
        "format": FORMAT,
        "key_digest": key_digest,
        "shard": spec.id,
        "first": spec.first,
        "rows": spec.rows,
        "content_sha256": content_sha256,
    }
    for name, value in wanted.items():
        found = hdf5.attribute(file, name)
        if found != value:
            raise hdf5.ContentError(f"its {name} is {found}, not {value}")


def read_rows(
    file: h5py.File,
    record: ShardRecord,
    rows: NDArray[np.int64],
    buffer: NDArray[Any],
    out: NDArray[np.float32],
    *,
    normalize: bool,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read some of a shard's vectors into `out` [k, D] and give their norm [k] and ok [k].

    HDF5 checks every chunk that holds one of them, and each is held against its norm.

    Args:
        file: the shard's open file.
        record: what it should hold.
        rows: [k] which, counted from the shard's first, in order and each once.
        buffer: [>= n, D] of the stored type, for the bytes on their way.
        out: where the vectors go.
        normalize: divide each by its norm, recomputed from the stored vector.

    Raises:
        ContentError: the file holds something else.
    """
    n, dim = record.rows, record.dim
    norm = hdf5.read(file, "norm", "float32", (n,))
    ok = good_rows(norm, hdf5.read(file, "ok", "uint8", (n,)), record.first)
    row = hdf5.read(file, "row", "int64", (n,))
    if (row != np.arange(record.first, record.first + n)).any():
        raise hdf5.ContentError("its rows are not in the plan's order")
    if n - ok.sum() != record.failed:
        raise hdf5.ContentError(f"{n - ok.sum()} of its rows failed, not {record.failed}")
    stored = hdf5.expected(file, "features", buffer.dtype.str, (n, dim))
    hdf5.read_into(buffer, stored, _chunks_of(rows, stored.chunks[0], n))
    for start in range(0, len(rows), BLOCK):
        block = out[start : start + BLOCK]
        here = rows[start : start + BLOCK]
        block[...] = buffer[here if len(rows) < n else slice(start, start + len(here))]
        length = np.sqrt(np.einsum("nd,nd->n", block, block))
        wanted = norm[here]
        differs = ~(np.abs(length - wanted) <= NORM_TOLERANCE * wanted)
        if differs.any():  # float32 loses the digits of a sum of a million squares
            length = lengths(block)
            differs = ~(np.abs(length - wanted) <= NORM_TOLERANCE * wanted)
        if differs.any():
            bad = record.first + int(here[np.argmax(differs)])
            raise hdf5.ContentError(
                f"the vector of row {bad} does not have the norm it was stored with"
            )
        if normalize:
            length[~ok[here]] = 1
            block /= length[:, None]
    return norm[rows], ok[rows]


def _chunks_of(rows: NDArray[np.int64], step: int, n: int) -> Iterator[slice]:
    """The runs of whole chunks, `step` of n rows each, that hold these rows."""
    chunks = np.unique(rows // step)
    for run in np.split(chunks, np.flatnonzero(np.diff(chunks) > 1) + 1):
        yield slice(int(run[0]) * step, min((int(run[-1]) + 1) * step, n))


def good_rows(norm: NDArray[np.float32], ok: NDArray[np.uint8], first: int) -> NDArray[np.bool_]:
    """Which of n rows have a vector.

    Args:
        norm: [n] as stored.
        ok: [n] as stored.
        first: position in the store of the first row.

    Raises:
        ContentError: one is called good and has none, or the other way round.
    """
    has = np.isfinite(norm) & (norm > 0)
    wrong = np.where(ok == 1, ~has, (ok != 0) | (norm != 0))
    if wrong.any():
        raise hdf5.ContentError(f"row {first + int(np.argmax(wrong))} is marked for what it is not")
    return has


def read_failures(file: h5py.File, record: ShardRecord) -> list[Failure]:
    """The failed rows of a shard.

    Raises:
        ContentError: the file holds something else.
    """
    if not record.failed:
        return []
    k = record.failed
    rows = hdf5.read(file, "bad_row", "int64", (k,)).tolist()
    codes = read_texts(file, "bad_code", k)
    texts = read_texts(file, "bad_text", k)
    return [Failure(*failure) for failure in zip(rows, codes, texts, strict=True)]


def read_texts(file: h5py.File, name: str, count: int) -> list[str]:
    """The texts that `hdf5.packed` made two data sets of.

    Raises:
        ContentError: the file holds something else.
    """
    offsets = hdf5.read(file, f"{name}_off", "int64", (count + 1,))
    return hdf5.unpacked(hdf5.read(file, f"{name}_blob", "uint8", (-1,)), offsets)


def lengths(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """L2 norms [n] of vectors [n, D], summed in float64 whatever they are stored in."""
    norms = np.empty(len(vectors), np.float32)
    step = max(1, min(BLOCK, SQUARES // max(1, vectors.shape[1])))
    for start in range(0, len(vectors), step):
        block = np.square(vectors[start : start + step], dtype=np.float64)
        with np.errstate(over="ignore"):
            norms[start : start + step] = np.sqrt(block.sum(axis=1))
    return norms
