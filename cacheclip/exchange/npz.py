"""Reading a .npz file, and saying what another file is and how it becomes one."""

import os
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.declared import declared
from cacheclip.exchange.draws import is_draw
from cacheclip.exchange.other_files import refusal
from cacheclip.exchange.parts import is_part, refuse_unlike
from cacheclip.exchange.source import DRAWS, KNOWN, Source

UNREADABLE = (
    *(OSError, ValueError, EOFError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


def read_npz(path: Path, source: Source) -> dict[str, NDArray[Any]]:
    """The arrays of a file, those that an import may want; the others stand there empty, by name.

    Shapes and sizes that the headers declare are compared before an array is in memory.

    Args:
        path: absolute.
        source: the same for messages.

    Raises:
        InputError: there is no such file, it is of another kind, or it cannot be read; or there
            are not as many labels as features, or more of them than memory holds.
    """
    with opened(path) as archive:
        _refuse_declared(archive, path, source)
        return {name: array_of(archive, name, path) for name in archive.files}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open archive of a .npz file, whose arrays are not read yet.

    Args:
        path: absolute.

    Raises:
        InputError: there is no such file, it is of another kind, or it cannot be read.
    """
    if not os.path.exists(path):  # noqa: PTH110  (Path's raises of long names)
        raise InputError("there is no such file", where=str(path), fix="check the path")
    if not path.is_file():
        raise refusal(path)
    try:
        with path.open("rb") as file:  # ours to close, also where it is no archive
            try:
                archive = np.load(file, allow_pickle=False)
            except UNREADABLE:  # NumPy's own words advise to load it as a pickle
                raise refusal(path) from None
            if isinstance(archive, np.ndarray):
                raise refusal(path)
            with archive, warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
                members = archive.zip.namelist()
                if members and not any(name.endswith(".npy") for name in members):
                    raise refusal(path)
                yield archive
    except OSError as error:
        fix = "check its permissions and the disk"
        raise InputError(
            f"the file cannot be read: {error.strerror}", where=str(path), fix=fix
        ) from None


def declared_of(archive: Any, name: str, path: Path) -> NDArray[Any]:
    """An array of an open file as its header has it; see `declared`.

    Raises:
        InputError: it cannot be what its header says.
    """
    try:
        return declared(archive.zip, member_of(archive.zip, name))
    except UNREADABLE as error:
        raise unreadable(name, path, error) from None


def member_of(archive: zipfile.ZipFile, name: str) -> str:
    """The file of the archive that an array is in."""
    return f"{name}.npy" if f"{name}.npy" in archive.namelist() else name


def _refuse_declared(archive: Any, path: Path, source: Source) -> None:
    """Refuse arrays that cannot be what their headers say, or do not go together."""
    found = {name: declared_of(archive, name, path) for name in archive.files if _is_wanted(name)}
    refuse_unlike(found, source)
    wanted = sum(array.size * array.itemsize for array in found.values())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > memory:
        raise InputError(
            f"its arrays take {wanted / 1e9:.1f} GB, and this machine has {memory / 1e9:.1f}",
            where=str(path),
            fix="save the features as float16, or fewer of them",
        )


def _is_wanted(name: str) -> bool:
    return name in KNOWN or is_part(name) or is_draw(name)


def array_of(archive: Any, name: str, path: Path) -> NDArray[Any]:
    """An array of an open file, empty where no import wants it.

    Raises:
        InputError: it is one of Python objects, or cannot be read.
    """
    if not _is_wanted(name):
        return np.empty(0)
    try:
        return np.asarray(archive[name])
    except UNREADABLE as error:
        if "pickle" not in str(error):
            raise unreadable(name, path, error) from None
    text = name in ("split", "classnames", "sample_ids")
    plain = f"{name}, dtype=str" if text else f"{name}.tolist()"
    raise InputError(
        f"{name} cannot be read: it is an array of Python objects",
        where=str(path),
        fix=f"{name} = np.array({plain})  # objects are pickles; pickles are not loaded",
    ) from None


def unreadable(name: str, path: Path, error: BaseException) -> InputError:
    """The error of an array that is damaged, or too large for the memory."""
    why = "there is no memory left for it" if isinstance(error, MemoryError) else str(error)
    return InputError(
        f"{name} cannot be read: {why or 'it is damaged'}",
        where=str(path),
        fix=f"save {name} {KNOWN.get(name, DRAWS)} again",
    )
