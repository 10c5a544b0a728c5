"""Reading a .npz file, and saying what another file is and how it becomes one."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.draws import is_draw
from cacheclip.exchange.other_files import refusal
from cacheclip.exchange.parts import is_part
from cacheclip.exchange.source import DRAWS, KNOWN

_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, those that an import may want; the others stand there empty, by name.

    Raises:
        InputError: there is no such file, it is of another kind, or it cannot be read.
    """
    if not path.exists():
        raise InputError("there is no such file", where=str(path), fix="check the path")
    if not path.is_file():
        raise refusal(path)
    try:
        with path.open("rb") as file:  # ours to close, also where it is no archive
            try:
                archive = np.load(file, allow_pickle=False)
            except _UNREADABLE:  # NumPy's own words advise to load it as a pickle
                raise refusal(path) from None
            if isinstance(archive, np.ndarray):
                raise refusal(path)
            with archive:
                members = archive.zip.namelist()
                if members and not any(name.endswith(".npy") for name in members):
                    raise refusal(path)
                return {name: _array(archive, name, path) for name in archive.files}
    except OSError as error:
        fix = "check its permissions and the disk"
        raise InputError(
            f"the file cannot be read: {error.strerror}", where=str(path), fix=fix
        ) from None


def _array(archive: Any, name: str, path: Path) -> NDArray[Any]:
    if not (name in KNOWN or is_part(name) or is_draw(name)):
        return np.empty(0)
    try:
        return np.asarray(archive[name])
    except _UNREADABLE as error:
        if "pickle" not in str(error):
            fix = f"save {name} {KNOWN.get(name, DRAWS)} again"
            raise InputError(
                f"{name} cannot be read: {str(error) or 'it is damaged'}", where=str(path), fix=fix
            ) from None
    text = name in ("split", "classnames", "sample_ids")
    plain = f"{name}, dtype=str" if text else f"{name}.tolist()"
    raise InputError(
        f"{name} cannot be read: it is an array of Python objects",
        where=str(path),
        fix=f"{name} = np.array({plain})  # objects are pickles; pickles are not loaded",
    ) from None
