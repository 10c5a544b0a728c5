"""Canonical JSON and digests, publishing, locks: the only file that writes under a final name.

Whatever is published here is either wholly there or not there: it is written beside its place,
synced, renamed, and the folder synced after it.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from cacheclip.errors import InputError, StoreError

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_REFUSALS = {
    errno.ENOSPC: ("no space left on the disk", "free some space, then run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run the same command again"),
    errno.EACCES: ("no permission to write", "choose a folder of your own with --home"),
    errno.EPERM: ("no permission to write", "choose a folder of your own with --home"),
    errno.EROFS: ("the disk is read-only", "choose another folder with --home"),
    errno.EIO: ("the disk reports an error", "look at the disk, or choose another with --home"),
    errno.ENOENT: ("a folder of this path is not there any more", "run the same command again"),
    errno.ENOTDIR: ("a part of this path is a file", "choose another folder with --home"),
    errno.EISDIR: ("there is a folder of this name", "move it away, or choose another name"),
    errno.ENAMETOOLONG: ("this path is too long", "choose a shorter one, or another --home"),
}
_LOCK_POLL = 0.05  # seconds between two tries for a lock that somebody holds


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


def sealed(obj: dict[str, Any]) -> dict[str, Any]:
    """`obj`, whose keys are text, with the digest of all the rest as its last key, "digest"."""
    rest = {key: value for key, value in obj.items() if key != "digest"}
    return {**rest, "digest": digest(rest)}


def seal_agrees(obj: dict[str, Any]) -> bool | None:
    """Whether what was read is what was sealed; None where nobody sealed it."""
    if "digest" not in obj:
        return None
    try:
        return bool(sealed(obj)["digest"] == obj["digest"])
    except (ValueError, RecursionError):  # a number that is not finite, or lists in lists in lists
        return False


def check_seal(obj: dict[str, Any], path: Path, *, fix: str) -> bool:
    """Whether what was read from `path` is proved to be what was sealed; False without a seal.

    Args:
        obj: what was read.
        path: the file it is from.
        fix: the command that brings the file back.

    Raises:
        StoreError: the digest is that of something else.
    """
    agrees = seal_agrees(obj)
    if agrees is False:
        raise DamagedError(
            "this file is damaged: its digest is not that of what it holds",
            where=str(path),
            fix=fix,
        )
    return agrees is True


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
    path: Path, *, exclusive: bool = False, staging: Path | None = None
) -> Iterator[Path]:
    """Give a path to write a new file at; when the block ends well, the file appears at `path`.

    The file is synced, renamed to `path` and the folder synced; when the block fails, nothing is
    left behind.

    Args:
        path: the final name; its folder is made.
        exclusive: never replace a file: the first to publish wins.
        staging: the folder, on the same file system, for the unfinished file. By default it lies
            beside `path`.

    Raises:
        FileExistsError: `exclusive`, and there is a file at `path` already.
        StoreError: the disk is full or refuses the file.
    """
    folder = staging or path.parent
    temporary = folder / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with _refusals(path):
            _make_folder(path.parent)
            _make_folder(folder)
            yield temporary
            _sync(temporary)
            if exclusive:
                _link(temporary, path)
            else:
                temporary.replace(path)
            _sync(path.parent)
    finally:
        with suppress(OSError):  # on a disk that fails, the first error is the one that counts
            temporary.unlink(missing_ok=True)


def publish_bytes(
    path: Path, data: bytes, *, exclusive: bool = False, staging: Path | None = None
) -> None:
    """Publish a file of these bytes; see `publishing`."""
    with (
        publishing(path, exclusive=exclusive, staging=staging) as temporary,
        temporary.open("xb") as file,
    ):
        file.write(data)


def publish_text(path: Path, text: str, *, staging: Path | None = None) -> None:
    """Publish a text file in UTF-8."""
    publish_bytes(path, text.encode(), staging=staging)


def publish_json(path: Path, obj: Any, *, staging: Path | None = None) -> None:
    """Publish a JSON file for people to read: indented, keys in the order given."""
    text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    publish_text(path, text + "\n", staging=staging)


def read_json(path: Path, *, fix: str | None = None) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        fix: the command that brings it back where it is damaged.

    Raises:
        DamagedError: it is not JSON.
        StoreError: it may not be read.
        FileNotFoundError: there is no such file.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError("not a regular file")  # reading a pipe would never end
        return json.loads(path.read_bytes())
    except PermissionError:
        raise StoreError(
            "no permission to read", where=str(path), fix=f"chmod u+r {shlex.quote(str(path))}"
        ) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(
            f"this file cannot be read: {error.strerror}",
            where=str(path),
            fix="look at the disk and the path, then run the same command again",
        ) from error
    except (ValueError, RecursionError):  # a RecursionError is of lists in lists in lists
        raise DamagedError(
            "this file is not JSON",
            where=str(path),
            fix=fix or f"rm {shlex.quote(str(path))}; what made it makes it anew",
        ) from None


def append_line(path: Path, line: str) -> None:
    """Add a line to a log in one write, synced; several processes may do so at once.

    Raises:
        StoreError: the disk is full or refuses the file.
    """
    with _refusals(path):
        _make_folder(path.parent)
        log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(log, fcntl.LOCK_EX)
            size = os.fstat(log).st_size
            if size and os.pread(log, 1, size - 1) != b"\n":
                line = "\n" + line  # a writer that died within its line must not spoil ours
            os.write(log, f"{line}\n".encode())
            os.fsync(log)
        finally:
            os.close(log)


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
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(
            f"cannot write there: {why}",
            where=f"{option} {path}",
            fix=f"give another {option} FILE",
        ) from None
    if path.is_dir():
        raise InputError(
            "cannot write there: it is a folder", where=f"{option} {path}", fix="give a file's name"
        )
    if path.exists() and not (path.is_file() and ours(path)):
        raise InputError(
            "cannot write there: what is there was not written by this command",
            where=f"{option} {path}",
            fix=f"give another {option} FILE, or move that away",
        )


class LockedError(StoreError):
    """Somebody else holds a lock; the message names who."""


@contextmanager
def lock(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the advisory lock `path` during the block; it is gone with the process, even killed.

    Args:
        path: the lock file; it stays afterwards, for only the lock on it counts.
        wait: seconds to wait for whoever holds it.

    Raises:
        LockedError: somebody else holds it.
        StoreError: the disk is full or refuses the file.
    """
    with _refusals(path):
        _make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        _acquire(descriptor, path, time.monotonic() + wait)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, canonical_json(holder).encode(), 0)
        yield
    finally:
        _close(descriptor)


_held: set[int] = set()  # descriptors of the locks of this process


def _close(descriptor: int) -> None:
    if descriptor in _held:  # not in a forked child, where the number may be another file's by now
        _held.remove(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    """A lock is shared with forked children: one that outlives us must not keep it."""
    for descriptor in tuple(_held):
        _close(descriptor)


os.register_at_fork(after_in_child=_close_in_child)


def _acquire(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _held_by(descriptor, path) from None
            time.sleep(_LOCK_POLL)
        else:
            return


def _held_by(descriptor: int, path: Path) -> LockedError:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        since = datetime.fromisoformat(holder["since"]).strftime("%H:%M")
        who = f"pid {holder['pid']} on {holder['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        who = "another process that has just begun"
    return LockedError(
        f"held by {who}", where=str(path), fix="wait until it ends, then run the same command again"
    )


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Say in our words what the system says of a disk that is full or closed to us."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        what, fix = _REFUSALS[error.errno]
        raise StoreError(what, where=str(path), fix=fix) from error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # unlike that of a file to publish, this one is the user's to see
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
