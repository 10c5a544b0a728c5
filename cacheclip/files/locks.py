"""Advisory locks, and the files that are written in place: lock files and logs."""

import errno
import fcntl
import json
import os
import shlex
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from cacheclip.errors import StoreError
from cacheclip.files.refusals import make_folder, refusals, tell_once

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_LOCK_POLL = 0.05  # seconds between two tries for a lock that somebody holds
_PATIENCE = 1.0  # seconds of waiting that need no word


def open_in_place(path: Path, flags: int) -> int:
    """Open a file that is written to under its final name: a regular one, and through no link.

    Raises:
        StoreError: it is a link, or no regular file.
        OSError: it cannot be opened.
    """
    refuse_link(path)
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreError(
            "this is no regular file",
            where=str(path),
            fix="move it away, then run the same command again",
        )
    return descriptor


def refuse_link(path: Path) -> None:
    """What is written or deleted in place must not lie elsewhere, where it may be the user's own.

    Raises:
        StoreError: there is a link.
    """
    if path.is_symlink():
        raise StoreError(
            "this is a link, and what is written here must not land elsewhere",
            where=str(path),
            fix=f"rm {shlex.quote(str(path))}; that takes the link alone away",
        )


class LockedError(StoreError):
    """Somebody else holds a lock; the message names who."""


@contextmanager
def lock(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the advisory lock `path` during the block; it is gone with the process, even killed.

    On a disk without locks it is not held, and that is said.

    Args:
        path: the lock file; it stays afterwards, for only the lock on it counts.
        wait: seconds to wait for whoever holds it.

    Raises:
        LockedError: somebody else holds it.
        StoreError: the disk is full or refuses the file, or it is a link.
    """
    with refusals(path):
        make_folder(path.parent)
        descriptor = _acquire(path, time.monotonic() + wait)
    try:
        with suppress(OSError):  # it is only told
            _sign(descriptor)
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


def _acquire(path: Path, deadline: float) -> int:
    """The descriptor of the lock file, once nobody else holds it."""
    patience = time.monotonic() + _PATIENCE
    while True:
        descriptor = open_in_place(path, os.O_RDWR | os.O_CREAT)
        _held.add(descriptor)
        try:
            while not take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                now = time.monotonic()
                if now >= deadline:
                    raise LockedError(
                        f"held by {_holder(descriptor)}",
                        where=str(path),
                        fix="wait until it ends, then run the same command again",
                    )
                if now > patience:
                    tell_once(f"waiting for {_holder(descriptor)}, which holds {path}")
                time.sleep(_LOCK_POLL)
            taken_away = os.fstat(descriptor).st_nlink == 0
        except BaseException:
            _close(descriptor)
            raise
        if not taken_away:
            return descriptor
        _close(descriptor)  # by whoever held it: the next file of this name is another lock


def take(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file; False where somebody else has it, True also where the disk has no locks.

    Args:
        descriptor: of the file; closing it gives the lock back.
        how: for `flock`; by default it waits.

    Raises:
        OSError: the disk has locks and gives none.
    """
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        tell_once("this disk has no locks: let no two commands write to it at once")
    return True


def _sign(descriptor: int) -> None:
    """Say in the lock file who holds it."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        since = datetime.fromisoformat(holder["since"]).strftime("%H:%M")
        return f"pid {holder['pid']} on {holder['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process that has just begun"
