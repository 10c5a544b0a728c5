"""Canonical JSON and digests, publishing, locks: the only file that writes under a final name.

Whatever is published here is either wholly there or not there: it is written beside its place,
synced, renamed, and the folder synced after it.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.files.locks import open_in_place, refuse_link, take
from cacheclip.files.refusals import make_folder, refusals, unreadable

_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
)
_NO_FOLDER_SYNC = frozenset(
    {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
    | {errno.EISDIR, errno.EACCES, errno.EPERM}
)
SEAL = "digest"  # of what else a JSON file holds
_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]+\.tmp")  # .NAME.PID.HEX.tmp


def canonical_json(obj: Any) -> str:
    """The one JSON text of `obj`: sorted keys, no blanks, ASCII, floats by repr.

    Raises:
        ValueError: a float is not finite.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(obj: Any) -> str:
    """SHA-256 of the canonical JSON of `obj`, 64 hex digits."""
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


class DamagedError(StoreError):
    """A file that is not as it was written; what made it can make it anew."""


def repair(file: Path, command: str) -> str:
    """The command line that makes a damaged file anew, and only that file.

    Args:
        file: the file.
        command: what makes it once it is not there.
    """
    remove = "rm -r" if file.is_dir() else "rm"
    return f"{remove} {shlex.quote(str(file))} && {command}"


def sealed(obj: dict[str, Any]) -> dict[str, Any]:
    """`obj`, whose keys are text, with the digest of all the rest as its last key."""
    rest = unsealed(obj)
    return {**rest, SEAL: digest(rest)}


def unsealed(obj: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed, or never was."""
    return {key: value for key, value in obj.items() if key != SEAL}


def seal_agrees(obj: dict[str, Any]) -> bool | None:
    """Whether what was read is what was sealed; None where nobody sealed it."""
    if SEAL not in obj:
        return None
    try:
        return bool(digest(unsealed(obj)) == obj[SEAL])
    except (ValueError, RecursionError):  # a number that is not finite, or lists in lists in lists
        return False


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_lines(lines: Iterable[str]) -> str:
    """SHA-256 over the UTF-8 of every line and a line feed, 64 hex digits.

    Raises:
        ValueError: a line holds a line feed, so that two lists could have the same digest.
    """
    total = hashlib.sha256()
    for line in lines:
        if "\n" in line:
            raise ValueError(f"a line feed within a line: {line!r}")
        total.update(line.encode() + b"\n")
    return total.hexdigest()


@contextmanager
def publishing(
    path: Path,
    *,
    exclusive: bool = False,
    staging: Path | None = None,
    option: str = "--home",
) -> Iterator[Path]:
    """Give a path to write a new file at; when the block ends well, the file appears at `path`.

    The file is synced, renamed to `path` and the folder synced; when the block fails, nothing is
    left behind.

    Args:
        path: the final name; its folder is made.
        exclusive: never replace a file: the first to publish wins.
        staging: the folder, on the same file system, for the unfinished file. By default it lies
            beside `path`.
        option: what names the folder on the command line, for the message.

    Raises:
        FileExistsError: `exclusive`, and there is a file at `path` already.
        StoreError: the disk is full or refuses the file, or `staging` is a link.
    """
    folder = staging or path.parent
    temporary = folder / temporary_name(path.name)
    try:
        with refusals(path, option):
            make_folder(path.parent)
            if staging is not None:
                refuse_link(staging)
                make_folder(staging)
            yield temporary
            _sync(temporary)
            if exclusive:
                _link(temporary, path)
            else:
                temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # on a disk that fails, the first error is the one that counts
            temporary.unlink(missing_ok=True)


def publish_bytes(
    path: Path,
    data: bytes,
    *,
    exclusive: bool = False,
    staging: Path | None = None,
    option: str = "--home",
) -> None:
    """Publish a file of these bytes; see `publishing`."""
    with (
        publishing(path, exclusive=exclusive, staging=staging, option=option) as temporary,
        temporary.open("xb") as file,
    ):
        file.write(data)


def publish_text(
    path: Path, text: str, *, staging: Path | None = None, option: str = "--home"
) -> None:
    """Publish a text file in UTF-8."""
    publish_bytes(path, text.encode(), staging=staging, option=option)


def publish_json(
    path: Path, obj: Any, *, staging: Path | None = None, option: str = "--home"
) -> None:
    """Publish a JSON file for people to read: indented, keys in the order given."""
    text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    publish_text(path, text + "\n", staging=staging, option=option)


def temporary_name(name: str) -> str:
    """What a file is called until it is finished; `leftovers` knows such names."""
    return f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


def leftovers(folder: Path) -> list[Path]:
    """The files in a folder that killed writers left unfinished: ours by name, none by a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            folder / entry.name
            for entry in entries
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        )


def sweep(folder: Path) -> None:
    """Take away what killed writers left in a folder whose lock the caller holds.

    Raises:
        StoreError: the folder is a link.
    """
    with refusals(folder):
        refuse_link(folder)
        for file in leftovers(folder):
            file.unlink(missing_ok=True)


def read_json(path: Path, *, command: str | None = None) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        command: what makes it anew once it is not there.

    Raises:
        DamagedError: it is not JSON.
        RefusedError: it cannot be read, and may be well.
        FileNotFoundError: there is no such file.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError("not a regular file")  # reading a pipe would never end
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(error, path) from error
    except (ValueError, RecursionError):  # a RecursionError is of lists in lists in lists
        anew = f"rm {shlex.quote(str(path))}; what made it makes it anew"
        raise DamagedError(
            "this file is not JSON",
            where=str(path),
            fix=repair(path, command) if command else anew,
        ) from None


def append_line(path: Path, line: str, *, option: str = "--home") -> None:
    """Add a line to a log, synced, whole or not at all; several processes may do so at once.

    Raises:
        StoreError: the disk is full or refuses the file, or it is a link.
    """
    with refusals(path, option):
        make_folder(path.parent)
        log = open_in_place(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            take(log)
            size = os.fstat(log).st_size
            if size and os.pread(log, 1, size - 1) != b"\n":
                line = "\n" + line  # a writer that died within its line must not spoil ours
            _append(log, f"{line}\n".encode(), size)
        finally:
            os.close(log)


def _append(log: int, data: bytes, size: int) -> None:
    """Write behind the end of a log of `size` bytes, or leave it as it was."""
    written = 0
    try:
        while written < len(data):  # a disk that is nearly full takes a part
            written += os.write(log, data[written:])
        os.fsync(log)
    except BaseException:
        with suppress(OSError):  # the first error is the one that counts
            if os.fstat(log).st_size == size + written:  # where locks are missing, nobody after us
                os.ftruncate(log, size)
        raise


def _sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Wait until a folder's list of names is on the disk, where the disk can say so."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if path.exists():  # without hard links it takes the caller's lock to make this safe
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)
