"""What lies below a folder: its pictures, and the files that are none."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cacheclip.datasets.suffixes import INSTALL_HEIF, readable, suffix, unread
from cacheclip.errors import InputError
from cacheclip.files.refusals import is_of_the_machine

# Thumbnails, waste bins and snapshots of network storage and systems; never the user's folders.
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx"}
    | {"$recycle.bin", "system volume information", "lost+found", "__pycache__"}
)


def pictures(root: Path, folder: str = "") -> tuple[list[str], list[str]]:
    """The pictures below a folder, and the other files, both sorted.

    Hidden files and folders and those of `SYSTEM_FOLDERS` are left out of both. Linked folders are
    followed, but not back upwards. A link to nothing counts as what its name says; a pipe, socket
    or device is never a picture.

    Args:
        root: the paths given start there, with "/" between folders.
        folder: the folder in `root` to look through, "" for all of it.

    Returns:
        The paths to read as pictures, and the others: see `suffixes.unread`.

    Raises:
        OSError: a folder cannot be read.
    """
    taken: list[str] = []
    left: list[str] = []
    for path, regular in _walk(root / folder, folder):
        (taken if regular and suffix(path) in readable() else left).append(path)
    return sorted(taken), sorted(left)


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones and the system's."""
    return sorted(entry.name for entry in _entries(folder) if _is_folder(entry))


def _walk(folder: Path, relative: str) -> Iterator[tuple[str, bool]]:
    """Every file below a folder, and whether it may be opened."""
    todo = [(str(folder), relative, frozenset[tuple[int, int]]())]
    while todo:
        place, relative, above = todo.pop()
        info = os.stat(place)  # noqa: PTH116  (Path's take their time in deep folders)
        here = (info.st_dev, info.st_ino)
        if here in above:
            continue
        for entry in _entries(place):
            path = f"{relative}/{entry.name}" if relative else entry.name
            if _is_folder(entry):
                todo.append((f"{place}/{entry.name}", path, above | {here}))
            else:
                yield path, _may_be_opened(entry)


def _entries(folder: str | Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower() not in SYSTEM_FOLDERS
        ]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if is_of_the_machine(error):
            raise
        return False  # a link to itself, or to what can be no path


def _may_be_opened(entry: "os.DirEntry[str]") -> bool:
    """A file, or a link to nothing, which is a picture that is missing."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


@dataclass(frozen=True)
class Found:
    """A picture that was asked for, and the folders between it and the one that was named."""

    path: Path
    folders: tuple[str, ...] = ()


def find(paths: Sequence[Path]) -> tuple[list[Found], str | None]:
    """The files given, there or not, and the pictures below the folders given, in order.

    Returns:
        The pictures, and a line on the files in the folders that are not read.

    Raises:
        InputError: there are no paths, none of them exists, a folder cannot be read, or they hold
            no picture.
    """
    if not paths:
        raise InputError(
            "no picture was named",
            where="standard input",
            fix="give it paths, one a line: find FOLDER -type f",
        )
    if not any(os.path.exists(path) for path in paths):  # noqa: PTH110  (Path's raises of long names)
        first = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        raise InputError("there is no such picture", where=first, fix="check the path")
    found: list[Found] = []
    others: list[str] = []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112
            found.append(Found(path))
            continue
        try:
            taken, left = pictures(path)
        except OSError as error:
            raise InputError(
                f"a folder cannot be read: {error.strerror}",
                where=str(error.filename),
                fix="check its permissions, then run the same command again",
            ) from error
        found += [Found(path / name, tuple(name.split("/")[:-1])) for name in taken]
        others += left
    missed = unread(others)
    if not found:
        raise InputError(
            "no picture found",
            where=", ".join(map(str, paths)) + (f" ({missed})" if missed else ""),
            fix=INSTALL_HEIF
            if missed and INSTALL_HEIF in missed
            else f"pictures end in {' '.join(sorted(readable()))}",
        )
    return found, missed
