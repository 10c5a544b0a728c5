"""Suite `store`: reading and writing a feature store against bare h5py and NumPy."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.errors import FitError
from cacheclip.store.key import Key, image_key
from cacheclip.store.reader import Store
from cacheclip.store.writer import ImageStoreWriter

DTYPE = "float16"


def cases(setup: Setup) -> Iterator[Case]:
    """The test rows of the shape: read, then written."""
    shape = setup.shape
    rows = np.random.default_rng(0).standard_normal((shape.test, shape.dim), dtype=np.float32)
    ids = [f"test/{k:06}.jpg" for k in range(len(rows))]
    key = key_of(ids)
    says = {
        "shape": shape.name,
        "rows": len(rows),
        "width": shape.dim,
        "precision": f"stored as {DTYPE}, read as float32",
        "batch_size": None,
        "epochs": None,
        "optimizer": None,
        "files": "in the system's cache",
        "megabytes": len(rows) * shape.dim * 2 / 1e6,
    }
    with tempfile.TemporaryDirectory() as folder:
        yield _reading(Path(folder), rows, ids, key, says)
        yield _writing(Path(folder), rows, ids, key, says)


def key_of(ids: list[str]) -> Key:
    """The key of a store that no encoder made."""
    return image_key(
        layer="image",
        encoder={"library": "none", "name": "random", "pretrained": "none"},
        preprocess={},
        compute={"dtype": "float32"},
        store_dtype=DTYPE,
        dataset="bench",
        split="test",
        ids=ids,
    )


def write(path: Path, rows: NDArray[np.float32], ids: list[str], key: Key) -> None:
    """A store of these rows."""
    with ImageStoreWriter(path, key, ids=ids, encode_batch=32, info={}) as writer:
        for spec in writer.missing:
            writer.write(spec, rows[spec.first : spec.first + spec.rows])
        writer.finish()


def _reading(
    folder: Path, rows: NDArray[np.float32], ids: list[str], key: Key, says: dict[str, Any]
) -> Case:
    write(folder / "read", rows, ids, key)
    np.save(folder / "read.npy", rows.astype(DTYPE))
    shards = sorted((folder / "read").glob("shard-*.h5"))

    def ours() -> NDArray[np.float32]:
        return Store.open(folder / "read").load(normalize=False).features

    def bare() -> NDArray[np.float32]:
        parts = []
        for shard in shards:
            with h5py.File(shard) as file:
                parts.append(file["features"][:].astype(np.float32))
        return np.concatenate(parts)

    def numpy() -> NDArray[np.float32]:
        loaded: NDArray[np.float32] = np.load(folder / "read.npy").astype(np.float32)
        return loaded

    def check() -> dict[str, bool]:
        if not all(np.array_equal(ours(), other()) for other in (bare, numpy)):
            raise FitError(
                "the store gives back other rows", where=str(folder), fix="this is a bug"
            )
        return {"equal": True}

    return Case(
        name=f"reading {len(rows):,} x {rows.shape[1]}, checksums included",
        unit="store",
        ours=Timed(ours),
        baselines={"h5py": Timed(bare), "np.load": Timed(numpy)},
        says=says,
        job="store",
        check=check,
    )


def _writing(
    folder: Path, rows: NDArray[np.float32], ids: list[str], key: Key, says: dict[str, Any]
) -> Case:
    numbers = count()

    def ours() -> float:
        """Seconds of clearing up, which do not count."""
        path = folder / f"written-{next(numbers)}"
        write(path, rows, ids, key)
        start = perf_counter()
        shutil.rmtree(path)
        return perf_counter() - start

    def numpy(*, synced: bool) -> None:
        with (folder / "written.npy").open("wb") as file:
            np.save(file, rows.astype(DTYPE))
            if synced:
                file.flush()
                os.fsync(file.fileno())

    return Case(
        name=f"writing {len(rows):,} x {rows.shape[1]}",
        unit="store",
        ours=Timed(ours, gives_apart=True),
        baselines={
            "np.save": Timed(partial(numpy, synced=False)),
            "np.save, fsync": Timed(partial(numpy, synced=True)),
        },
        says=says,
        job="store",
    )
