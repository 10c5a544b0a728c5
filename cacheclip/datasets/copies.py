"""Which files hold the same bytes, found without reading all of them."""

import errno
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cacheclip.files.disk import sha256_file
from cacheclip.files.refusals import is_of_the_machine, unreadable

PROBE = 4096  # bytes from the middle of a file that tell most files of one size apart


class FileInfo(NamedTuple):
    """What the file system says of a file."""

    size: int
    mtime_ns: int
    device: int
    inode: int


def file_info(path: str) -> FileInfo | None:
    """Size, time and place of a file; None where a link leads nowhere.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        info = os.stat(path)  # noqa: PTH116  (a hundred thousand of them)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # A link to itself, or a path that no file can have.
        if os.path.islink(path) or error.errno == errno.ENAMETOOLONG:  # noqa: PTH114
            return None
        raise error from None
    return FileInfo(info.st_size, info.st_mtime_ns, info.st_dev, info.st_ino)


def same_bytes(paths: Sequence[str], infos: Sequence[FileInfo]) -> list[list[int]]:
    """Groups of two and more files that hold the same bytes, each in ascending order.

    Only files of one size are opened; of these a few bytes are read, and the whole of those that
    these bytes do not tell apart. Links to one file are known without reading. Empty files, and
    those that cannot be read, are copies of nothing.

    Args:
        paths: [n] the files.
        infos: [n] what `file_info` says of them.
    """
    groups = _sharing(range(len(paths)), lambda row: infos[row].size or None)
    for look in (_probe, _whole):
        groups = [part for rows in groups for part in _told_apart(rows, paths, infos, look)]
    return groups


def _told_apart(
    rows: Sequence[int],
    paths: Sequence[str],
    infos: Sequence[FileInfo],
    look: Callable[[str, int], bytes | None],
) -> list[list[int]]:
    """The rows in groups of equal looks; the names of one file are looked at once."""
    names: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        names.setdefault((infos[row].device, infos[row].inode), []).append(row)
    if len(names) == 1:
        return [list(rows)]
    looks: dict[bytes, list[int]] = {}
    for same in names.values():
        seen = look(paths[same[0]], infos[same[0]].size)
        if seen is not None:
            looks.setdefault(seen, []).extend(same)
    return [sorted(group) for group in looks.values() if len(group) > 1]


def _sharing(rows: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """The rows in groups of two and more that have a key in common, in the order of the rows."""
    groups: dict[Hashable, list[int]] = {}
    for row in rows:
        if (own := key(row)) is not None:
            groups.setdefault(own, []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def same_content(hashes: Sequence[str]) -> list[list[int]]:
    """The same of files whose contents are hashed already."""
    return _sharing(range(len(hashes)), hashes.__getitem__)


def _probe(path: str, size: int) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        _refuse_machine(error, path)
        return None
    try:
        return os.pread(file, PROBE, max(0, (size - PROBE) // 2))
    except OSError as error:
        _refuse_machine(error, path)
        return None
    finally:
        os.close(file)


def _whole(path: str, _: int) -> bytes | None:
    try:
        return sha256_file(Path(path)).encode()
    except OSError as error:
        _refuse_machine(error, path)
        return None


def _refuse_machine(error: OSError, path: str) -> None:
    """What cannot be read is a copy of nothing, but not what could be read in a while."""
    if is_of_the_machine(error):
        raise unreadable(error, Path(path)) from error
