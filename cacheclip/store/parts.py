"""Frozen parts of an encoder as arrays by name: what methods read of a model beside its features.

`encoder` holds the maps that its towers end in, `text-tower` the text transformer, `tokens` the
class names as that transformer reads them. A name with a dot belongs to what stands before the dot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.store import hdf5
from cacheclip.store.header import Header
from cacheclip.store.key import Key
from cacheclip.store.one_file import OneFileStore, write_one
from cacheclip.store.schema import PARTS_FILE, from_json

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PartsRecord:
    """What is on disk of a finished store of parts; written last."""

    key_digest: str
    bytes: int
    sha256: str
    content_sha256: str


class PartStore(OneFileStore[PartsRecord]):
    """A complete store of parts. `PartStore.open` makes one."""

    file = PARTS_FILE
    holds = "an encoder's parts"

    @staticmethod
    def parsed(content: Any, header: Header) -> PartsRecord:
        """The record of a complete store of parts."""
        return from_json(PartsRecord, content)

    @property
    def kind(self) -> str:
        """One of `PARTS`."""
        return str(self.key["layer"])

    @property
    def names(self) -> list[str]:
        """The names of its arrays."""
        return list(self.key["parts"])

    def load(self) -> Arrays:
        """Read all arrays, every byte checked: float32, or int64 where they count something.

        Raises:
            StoreError: the file is missing or damaged.
        """
        path = self.path / PARTS_FILE
        with hdf5.checked(path, self.header.extract_command) as file:
            arrays = hdf5.read_all(file)
            if hdf5.content_sha256(arrays) != self.record.content_sha256:
                raise hdf5.ContentError("it is not the file of the record")
            if sorted(arrays) != sorted(self.names):
                raise hdf5.ContentError("its arrays are not those of the key")
        return {
            name: array.astype(np.float32) if array.dtype == np.float16 else array
            for name, array in arrays.items()
        }


def write_parts(
    path: Path, key: Key, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any], home: str
) -> PartStore:
    """Write the store of a key's parts unless it is there, and open it.

    Args:
        path: its folder, from `Home.part_path`.
        key: from `parts_key`.
        arrays: by name, float32 or int64; stored as float16 where that loses nothing.
        info: what people may want to know.
        home: `Home.option`.

    Raises:
        StoreError: the disk refuses, or another process writes here.
    """
    if sorted(arrays) != sorted(key["parts"]):
        raise ValueError("these are not the parts of the key")
    smallest = {name: _smallest(array) for name, array in arrays.items()}
    write_one(
        path, PARTS_FILE, key, smallest, lambda file: PartsRecord(**file), info=info, home=home
    )
    return PartStore.open(path, home)


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """Published weights mostly are float16 already, and a tower takes hundreds of megabytes."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else array
