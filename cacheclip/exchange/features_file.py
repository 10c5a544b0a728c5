"""Features that a bundle is to answer for, from a .npy or .npz file, read part by part."""

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.declared import header
from cacheclip.exchange.npz import UNREADABLE, array_of, declared_of, member_of, opened, unreadable
from cacheclip.exchange.parts import by_split, in_its_place
from cacheclip.exchange.source import KNOWN, Source, flat
from cacheclip.files import regular
from cacheclip.store.schema import SPLITS
from cacheclip.store.split_words import split_of

NPY = b"\x93NUMPY"
FEATURES = "features"  # one array, or in a .npz also one a split
BESIDE = ("labels", "classnames", "sample_ids", "split")  # small: read whole where they are there


@dataclass(frozen=True)
class FeaturesFile:
    """Rows of features and what a file says of them; `FeaturesFile.open` makes one.

    Attributes:
        path: absolute.
        arrays: name -> rows, in order; the name is empty for the one array of a .npy file.
        dim: D, the numbers of a row.
        beside: the arrays of `BESIDE` that are there.
    """

    path: Path
    arrays: Mapping[str, int]
    dim: int
    beside: Mapping[str, NDArray[Any]]

    @classmethod
    def open(cls, file: Path) -> "FeaturesFile":
        """What the file holds; of the features its headers alone are read.

        Raises:
            InputError: there is no such file, it is of another kind, or its features are not one
                vector a row.
        """
        path = regular.expanded(file).absolute()
        source = Source(str(path), "")
        if path.is_file() and _starts_like_npy(path):
            shape = _rows("", _shape_of_npy(path), source)
            return cls(path, {"": shape[0]}, shape[1], {})
        with opened(path) as archive:
            names = archive.files
            parts = by_split(names, source)
            order = [split for split in SPLITS if split in parts.get(FEATURES, {})]
            arrays = [parts[FEATURES][split] for split in order] or [FEATURES]
            if not set(arrays) <= set(names):
                raise _no_features(names, source)
            shapes = [_rows(name, declared_of(archive, name, path), source) for name in arrays]
            beside = {name: array_of(archive, name, path) for name in BESIDE if name in names}
            for own in {"labels", "sample_ids"} & set(parts):
                if set(parts[own]) >= set(order):
                    read = [array_of(archive, parts[own][split], path) for split in order]
                    beside[own] = np.concatenate(read)
        if len({dim for _, dim in shapes}) > 1:
            what = f"{', '.join(arrays)} have rows of {', '.join(str(dim) for _, dim in shapes)}"
            raise InputError(f"{what} numbers", where=str(path), fix="save those of one encoder")
        counts = [rows for rows, _ in shapes]
        if order:
            beside["split"] = np.repeat(order, counts)
        return cls(path, dict(zip(arrays, counts, strict=True)), shapes[0][1], beside)

    @property
    def count(self) -> int:
        """N, the rows of all arrays."""
        return sum(self.arrays.values())

    @property
    def source(self) -> Source:
        """The file, for messages."""
        return Source(str(self.path), "")

    def ids(self) -> Sequence[str]:
        """The id of each row, [N]; by default its number."""
        given = self.beside.get("sample_ids")
        if given is None:
            return [str(row) for row in range(self.count)]
        texts = given.astype(str) if given.dtype.kind in "iu" else given
        return self.source.texts("sample_ids", texts, self.count)

    def splits(self) -> list[str] | None:
        """The split of each row, [N]; None where the file does not say."""
        given = self.beside.get("split")
        if given is None:
            return None
        words = self.source.texts("split", flat(given, self.count), self.count)
        return [split_of(word) or word for word in words]

    def labels(self, classnames: Sequence[str]) -> list[str | None] | None:
        """The class name of each row, [N], None for a row without; None where there are no labels.

        Args:
            classnames: what numbers stand for in a file that names no classes.

        Raises:
            InputError: they are not one class a row.
        """
        if "labels" not in self.beside:
            return None
        given = flat(self.beside["labels"], self.count)
        if given.dtype.kind in "US":
            return [one or None for one in self.source.texts("labels", given, self.count)]
        if given.dtype.kind not in "iuf" or given.ndim != 1:
            what = f"{given.dtype} {list(given.shape)}, and each row has one class"
            raise self.source.fault("labels", what)
        self.source.expect("labels", given, fits=len(given) == self.count, count=self.count)
        names = classnames
        if "classnames" in self.beside:
            names = self.source.texts("classnames", self.beside["classnames"], None)
        if (given != np.floor(given)).any() or given.max() >= len(names):
            what = f"they go up to {given.max():g}, and there are {len(names)} classes"
            raise self.source.fault("labels", what)
        return [names[label] if label >= 0 else None for label in given.astype(np.int64).tolist()]

    def parts(self, step: int) -> Iterator[NDArray[np.float32]]:
        """All rows as they are in the file, at most `step` at once: [n, D].

        Raises:
            InputError: the file is damaged.
        """
        for name in self.arrays:
            try:
                with _reading(self.path, name) as file:
                    yield from _parts(file, step)
            except UNREADABLE as error:
                raise unreadable(name or FEATURES, self.path, error) from None


def _starts_like_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(NPY)) == NPY


def _shape_of_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file by its header: its shape and type, and no memory for its values."""
    with path.open("rb") as file:
        try:
            shape, _, dtype = header(file)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            held = os.fstat(file.fileno()).st_size - file.tell()
            if min(shape, default=0) < 0 or (size > held and not dtype.hasobject):
                raise ValueError(f"{size:,} bytes by its header, and the file holds {held:,}")
        except UNREADABLE as error:
            raise unreadable(FEATURES, path, error) from None
    return np.broadcast_to(np.zeros((), dtype), shape)


def _rows(name: str, x: NDArray[Any], source: Source) -> tuple[int, int]:
    """N and D of features, one vector a row."""
    name = name or FEATURES
    if x.dtype.kind != "f":
        brain = " (bfloat16, which NumPy does not know)" if x.dtype == "V2" else ""
        what, fix = f"{x.dtype}{brain} and not floats", f"{name} = {name}.astype(np.float32)"
        raise source.fault(name, what, fix)
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[1] != 1) or not x.size:
        what = f"its shape is {list(x.shape)}, and each row is one vector"
        raise source.fault(name, what, f"{name} {KNOWN[FEATURES]}")
    return x.shape[0], x.shape[-1]


@contextmanager
def _reading(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The bytes of one array as .npy has them: of a .npz by its name, else of the file itself."""
    if not name:
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(member_of(archive, name)) as member:
        yield member


def _parts(file: IO[bytes], step: int) -> Iterator[NDArray[np.float32]]:
    """The rows of an array, at most `step` at once; all are read where columns come first."""
    shape, columns_first, dtype = header(file)
    rows, dim = shape[0], shape[-1]
    if columns_first:
        whole = np.frombuffer(file.read(), dtype).reshape(dim, rows).T
        for first in range(0, rows, step):
            yield _in_float32(whole[first : first + step])
        return
    for first in range(0, rows, step):
        count = min(step, rows - first)
        data = file.read(count * dim * dtype.itemsize)
        yield _in_float32(np.frombuffer(data, dtype).reshape(count, dim))


def _in_float32(x: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large is infinite, and said to be
        return np.array(x, np.float32, order="C")


def _no_features(names: Sequence[str], source: Source) -> InputError:
    return InputError(
        "an array is missing: features",
        where=f"{source.file} (has {', '.join(names) or 'no arrays'})",
        fix=in_its_place(FEATURES, names) or f"add features {KNOWN[FEATURES]}",
    )
