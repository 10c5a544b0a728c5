"""Logs: one JSON object a line, read past whatever is torn, foreign or damaged."""

import errno
import json
import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.files.disk import seal_agrees

_LONGEST_LINE = 2**26  # bytes; what is longer is none of ours


def read_log(
    path: Path, wanted: Callable[[bytes], bool] = lambda line: True
) -> tuple[list[dict[str, Any]], int]:
    """The objects of a log, oldest first, and how many lines are left out as no such object.

    A line is left out that was torn by a crash, is no JSON object, or disagrees with its own
    "digest". A log that is not there is empty.

    Args:
        path: the log.
        wanted: which lines to look at; the others are neither given back nor counted.

    Raises:
        StoreError: it is no regular file, or may not be read.
    """
    found: list[dict[str, Any]] = []
    left_out = 0
    try:
        # A FIFO would be waited for, and a link may lead anywhere.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _no_log(path)
            while line := file.readline(_LONGEST_LINE):
                if not line.isspace() and wanted(line):
                    content = _object(line)
                    if content is None:
                        left_out += 1
                    else:
                        found.append(content)
    except FileNotFoundError:
        return [], 0
    except IsADirectoryError:
        raise _no_log(path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_log(path) from None
        denied = isinstance(error, PermissionError)
        raise StoreError(
            f"this log cannot be read: {error.strerror}",
            where=str(path),
            fix=f"chmod u+r {shlex.quote(str(path))}"
            if denied
            else "look at the disk and the path, then run the same command again",
        ) from error
    return found, left_out


def lines_left_out(path: Path, n: int) -> list[str]:
    """What there is to say of the lines that `read_log` left out: a line, or none."""
    what = "1 line cannot be read and is" if n == 1 else f"{n} lines cannot be read and are"
    return [f"{path.name}: {what} left out"] if n else []


def _object(line: bytes) -> dict[str, Any] | None:
    """What a line of a log holds; None where that is no object, or not the one it was."""
    try:
        content = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(content, dict) and seal_agrees(content) is not False
    return content if whole else None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _no_log(path: Path) -> StoreError:
    return StoreError(
        "this log is not a regular file",
        where=str(path),
        fix=f"mv {shlex.quote(str(path))} {shlex.quote(str(path) + '.aside')}, then run the same "
        "command again",
    )
