"""What the system says of a file, in our words: three lines in place of a traceback."""

import errno
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cacheclip.errors import StoreError

_AGAIN = "run the same command again"
_LOOK = "look at the disk, or choose another folder with {option}"
_REFUSALS = {
    errno.ENOSPC: ("no space left on the disk", f"free some space, then {_AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space, then {_AGAIN}"),
    errno.EFBIG: (
        "a file would be larger than the disk or `ulimit -f` allows",
        f"ulimit -f unlimited, then {_AGAIN}",
    ),
    errno.EACCES: ("no permission to write", "choose a folder of your own with {option}"),
    errno.EPERM: ("no permission to write", "choose a folder of your own with {option}"),
    errno.EROFS: ("the disk is read-only", "choose another folder with {option}"),
    errno.EIO: ("the disk reports an error", _LOOK),
    errno.ENOENT: ("a folder of this path is not there any more", _AGAIN),
    errno.ENOTDIR: ("a part of this path is a file", "choose another folder with {option}"),
    errno.EISDIR: ("there is a folder of this name", "move it away, or choose another name"),
    errno.ENAMETOOLONG: ("this path is too long", "choose a shorter one with {option}"),
    errno.ELOOP: ("the links of this path lead in a circle", "choose another one with {option}"),
    errno.EXDEV: ("this folder lies on two disks", "choose another one with {option}"),
    errno.EMFILE: ("too many files are open", f"ulimit -n 4096, then {_AGAIN}"),
    errno.ENFILE: ("too many files are open on this machine", f"end other programs, then {_AGAIN}"),
    errno.ENOMEM: ("the system has no memory left", f"end other programs, then {_AGAIN}"),
    errno.ESTALE: ("the network disk gave up this file", f"mount that disk anew, then {_AGAIN}"),
    errno.ETIMEDOUT: ("the network disk does not answer", f"wait until it does, then {_AGAIN}"),
    errno.EBUSY: ("something else holds this file", f"wait until it ends, then {_AGAIN}"),
    errno.ETXTBSY: ("something else holds this file", f"wait until it ends, then {_AGAIN}"),
    errno.EAGAIN: ("something else holds this file", f"wait until it ends, then {_AGAIN}"),
    errno.EINTR: ("the system broke off in the middle", _AGAIN),
}
CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})  # to us, and so for good
_OF_THE_MACHINE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK, errno.ENOSYS}
    | {errno.ESTALE, errno.ETIMEDOUT, errno.EINTR, errno.EAGAIN, errno.EBUSY}
)


class RefusedError(StoreError):
    """The system gave no file, or took none; the file itself may be well.

    Whoever catches a StoreError to make a damaged file anew must let this one pass.
    """


def refused(error: OSError, path: Path | str, option: str = "--home") -> RefusedError:
    """What the system said of a path, in three lines.

    Args:
        error: what it said.
        path: where.
        option: what names the folder on the command line.
    """
    said = error.strerror or str(error) or type(error).__name__
    what, fix = _REFUSALS.get(error.errno or 0, (f"the system says: {said}", _LOOK))
    return RefusedError(what, where=str(path), fix=fix.format(option=option))


def escaped(error: OSError) -> RefusedError:
    """What the system said where nobody was by to say what it was for."""
    where = " ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    said = refused(error, where or "a file of this command")
    if isinstance(error, PermissionError):
        fix = "check the permissions of this path, then run the same command again"
        return RefusedError("no permission", where=said.where, fix=fix)
    if isinstance(error, FileNotFoundError):
        return RefusedError("this is not there any more", where=said.where, fix=said.fix)
    return said


def unreadable(error: OSError, path: Path) -> RefusedError:
    """The error of a file that the system does not give, which may be well."""
    said, quoted = refused(error, path), shlex.quote(str(path))
    if isinstance(error, PermissionError):
        return RefusedError("no permission to read", where=str(path), fix=f"chmod u+r {quoted}")
    look = "look at the disk and the path, then run the same command again"
    fix = said.fix if is_of_the_machine(error) else look
    return RefusedError(f"this file cannot be read: {said.what}", where=str(path), fix=fix)


@contextmanager
def refusals(path: Path, option: str = "--home") -> Iterator[None]:
    """Say in our words whatever the system says of `path` during the block.

    Raises:
        FileExistsError: of a file that must not be replaced, which is the caller's to see.
        RefusedError: all else that the system refuses.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise refused(error, path, option) from error


def is_of_the_machine(error: OSError) -> bool:
    """Whether a file could not be had for a reason that is not the file's, and may soon pass."""
    return error.errno in _OF_THE_MACHINE


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OSError: it cannot be made; NotADirectoryError where a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # unlike that of a file to publish, this one is the user's to see
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


tell: Callable[[str], None] = lambda line: None  # noqa: E731  (the command line sets its talk here)
_told: set[str] = set()


def tell_once(line: str) -> None:
    """Say what a disk lacks, once a process."""
    if line not in _told:
        _told.add(line)
        tell(line)
