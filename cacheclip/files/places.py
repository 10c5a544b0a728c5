"""Places that a command will write to, tried before the work that is to be kept there."""

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cacheclip.errors import InputError
from cacheclip.files.disk import temporary_name
from cacheclip.files.locks import open_in_place

_SOME = b"\0" * 4096  # bytes that a disk must take


def try_writing(root: Path, names: Iterable[str] = ()) -> None:
    """Write to a folder, or where it would be made, and leave it as it was.

    Args:
        root: the folder; it need not exist.
        names: folders and logs in it that will be written to; those that are there are tried too.

    Raises:
        StoreError: a log is a link, or no regular file.
        OSError: something of it cannot be written to.
    """
    there = next(path for path in (root, *root.parents) if path.exists())
    _try_folder(there)
    for path in (root / name for name in names):
        if path.is_dir():
            _try_folder(path)
        elif path.exists() or path.is_symlink():
            os.close(open_in_place(path, os.O_WRONLY | os.O_APPEND))


def _try_folder(folder: Path) -> None:
    file = folder / temporary_name("try")
    try:
        with file.open("xb", buffering=0) as opened:
            if opened.write(_SOME) != len(_SOME):
                opened.write(_SOME)  # of a disk that took a part, this gives the error
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def refuse_place(
    path: Path,
    option: str,
    suffixes: Sequence[str] = (),
    ours: Callable[[Path], bool] = lambda file: True,
) -> None:
    """Refuse a place where no file can be, or where another's is, before the work it is for.

    Args:
        path: where the file is to be.
        option: what named it.
        suffixes: what its name may end in, "" for a name without one; none for anything.
        ours: whether a file that is there already is one that may be replaced.

    Raises:
        InputError: the folder cannot be made or written to, the place is a folder, the name ends
            in something else, or the file there is not ours.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(
            f"cannot write there: the name must end in {' or '.join(filter(None, suffixes))}",
            where=f"{option} {path}",
            fix=f"{option} {shlex.quote(str(path.with_suffix(suffixes[0])))}",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try_writing(path.parent)
        is_folder, is_other = path.is_dir(), path.exists() and not (path.is_file() and ours(path))
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(
            f"cannot write there: {why}",
            where=f"{option} {path}",
            fix=f"give another {option} FILE",
        ) from None
    if is_folder:
        raise InputError(
            "cannot write there: it is a folder", where=f"{option} {path}", fix="give a file's name"
        )
    if is_other:
        raise InputError(
            "cannot write there: what is there was not written by this command",
            where=f"{option} {path}",
            fix=f"give another {option} FILE, or move that away",
        )
