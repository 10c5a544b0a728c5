"""What lies below a folder: its pictures, and the files that are none."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cacheclip.datasets.suffixes import readable, suffix

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


def _walk(
    folder: Path, relative: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, bool]]:
    """Every file below a folder, and whether it may be opened."""
    info = folder.stat()
    here = (info.st_dev, info.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        path = f"{relative}/{entry.name}" if relative else entry.name
        if _is_folder(entry):
            yield from _walk(folder / entry.name, path, above | {here})
        else:
            yield path, _may_be_opened(entry)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower() not in SYSTEM_FOLDERS
        ]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _may_be_opened(entry: "os.DirEntry[str]") -> bool:
    """A file, or a link to nothing, which is a picture that is missing."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True
