"""Files that a user names: opened only where they are regular, for a pipe would wait for ever.

Faults of opening and reading are OSError or ValueError with a sentence that says which, for the
caller alone knows what the file was for.
"""

import json
import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from cacheclip.errors import InputError

MOST_TEXT = 2**28  # bytes; a table of a million pictures takes a quarter of it


class IrregularError(ValueError):
    """A folder, pipe, socket or device where a file is needed."""


def expanded(path: str | Path) -> Path:
    """A path with a home folder for its "~"; as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path's raises)


def refuse_no_text(path: Path) -> None:
    """Refuse a path that is no text in UTF-8, where it is to be written down.

    Raises:
        InputError: it is none, with the command that renames it.
    """
    if not all(is_text(part.name) for part in (path, *path.parents)):
        raise InputError(
            "a name in this path is not UTF-8 text, and what is made of it keeps its path",
            where=str(path),
            fix=renaming(path),
        )


def renaming(path: Path) -> str:
    """The shell command that makes the first name in a path text in one line, which it is not."""
    names = reversed((path, *path.parents))
    bad = next(one for one in names if one.name and not is_line(one.name))
    old = os.fsencode(bad)
    text = os.fsencode(bad.name).decode(errors="backslashreplace").replace("\\x", "_")
    new = bad.with_name("_".join(f"{text}.".splitlines())[:-1])  # a line end may be the last
    plain = set(range(32, 127)) - set(b"\\'")
    quoted = "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in old)
    return f"mv -n $'{quoted}' {shlex.quote(str(new))}"


def is_text(name: str) -> bool:
    """Whether a name is text in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_line(name: str) -> bool:
    """Whether a name is text in UTF-8, in one line."""
    return is_text(name) and name.splitlines() == [name]


def opened(path: Path) -> BinaryIO:
    """Open a regular file for reading; its size is `os.fstat`'s to tell.

    Raises:
        OSError: it cannot be opened.
        IrregularError: it is something else.
    """
    _refuse_irregular(path.stat())  # before it is opened, which may set a device to work
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  (the caller's to close)
    try:
        _refuse_irregular(os.fstat(file.fileno()))  # it may be another by now
    except IrregularError:
        file.close()
        raise
    return file


def read_text(path: Path) -> str:
    """A text in UTF-8, without the mark that some editors put before it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file, larger than MOST_TEXT, or no text in UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig")


def read_bytes(path: Path) -> bytes:
    """What a file of MOST_TEXT bytes at most holds; see `read_text`."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(MOST_TEXT + 1) if size <= MOST_TEXT else b""
    if max(size, len(data)) > MOST_TEXT:
        raise ValueError(f"it has {max(size, len(data)):,} bytes, limit {MOST_TEXT:,}")
    return data


def parsed(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What a text in JSON says.

    Args:
        text: in JSON.
        pairs: makes the value of an object of its pairs.

    Raises:
        ValueError: it is no JSON, or lists in lists in lists, or it holds half a character, which
            no file could keep.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("lists or objects in one another, thousands deep") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it has half a character (a lone surrogate)") from None
    return value


def _refuse_irregular(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        folder = stat.S_ISDIR(info.st_mode)
        raise IrregularError("it is a folder" if folder else "not a regular file")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
