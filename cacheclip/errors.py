"""Every error that a user can meet, as one family with documented exit codes.

    CacheclipError
    ├── UsageError     2  options that do not go together; click's own usage errors exit alike
    ├── InputError     3  data, prompts, shots or hyperparameters are wrong or missing
    ├── StoreError     4  the cache is missing, incomplete, corrupt, locked or of another key
    ├── MachineError   5  no GPU, weights or package
    ├── ProtocolError  6  the choice would see test labels
    └── FitError       7  not finite or not converged

Only `cacheclip.cli.main` turns one into an exit code. Anything else that escapes is a bug of ours
and keeps its traceback (exit 1). An interrupt exits with 130.

Here is also what makes a message fit to print: names spelled out where they would steer a terminal,
near names for one that is not known, and options as whoever reads it writes them.
"""

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

UPGRADE = "pip install --upgrade cacheclip"  # the fix of what a newer version wrote
SHOWN = 8  # names of a list that a message holds
LONGEST = 80  # characters of a value that a message holds
# Control characters, line ends, overrides of the direction of writing, and bytes that are no text.
_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


# Whether the reader called a function. Messages come from everywhere, so no argument says it.
_IN_PYTHON: ContextVar[bool] = ContextVar("in_python", default=False)


class CacheclipError(Exception):
    """What is wrong, where it is, and what to do about it."""

    exit_code = 1

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        return f"error: {plain(self.what)}\nwhere: {plain(self.where)}\nfix: {plain(self.fix)}"


class UsageError(CacheclipError):
    """Options that do not go together, or a name that is not on the menu."""

    exit_code = 2


class InputError(CacheclipError):
    """Data, prompts, shots or hyperparameters are wrong or missing."""

    exit_code = 3


class StoreError(CacheclipError):
    """The cache is missing, incomplete, corrupt, locked or of another key."""

    exit_code = 4


class MachineError(CacheclipError):
    """The machine lacks a GPU, weights or a package."""

    exit_code = 5


class ProtocolError(CacheclipError):
    """The choice would see test labels."""

    exit_code = 6


class FitError(CacheclipError):
    """A fit is not finite or did not converge."""

    exit_code = 7


def plain(text: str) -> str:
    r"""The text on one line, with what would steer a terminal spelled out: `\x1b`, `\n`."""
    return _UNPRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def some(names: Sequence[str]) -> str:
    """The first few names, for a sentence."""
    return (", ".join(names[:SHOWN]) or "none") + (" ..." if len(names) > SHOWN else "")


def counted(n: int, noun: str) -> str:
    """How many there are: `1 draw`, `2 draws`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def brief(value: Any) -> str:
    """A value for a sentence: of an array the shape, of what is long the beginning."""
    if shape := getattr(value, "shape", ()):
        return f"{type(value).__name__} {list(shape)}"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def near(asked: str, names: Sequence[str]) -> list[str]:
    """The names that hold what was asked for, shortest first, then those that resemble it.

    Args:
        asked: what was written.
        names: those that there are; what follows the last "/" may stand for one.
    """
    asked = asked.lower()
    if not asked:
        return []
    holding = [name for name in names if asked in name.lower()]
    holding.sort(key=lambda name: (not name.lower().startswith(asked), len(name)))
    spelled = {name.rpartition("/")[2].lower(): name for name in names}
    spelled |= {name.lower(): name for name in names}
    ratio = {name: difflib.SequenceMatcher(None, name, asked).ratio() for name in spelled}
    least = max(0.6, max(ratio.values(), default=0) - 0.15)
    close = sorted((name for name in spelled if ratio[name] >= least), key=lambda n: -ratio[n])
    return list(dict.fromkeys([*holding, *(spelled[name] for name in close)]))


def instead(asked: str, names: Sequence[str], *, option: str = "", see: str = "") -> str:
    """What to write instead of a name that is not known: near ones, then where all of them are.

    Args:
        asked: what was written.
        names: those that there are.
        option: the option or argument that takes the name, where one does, as `argument` has it.
        see: the command that lists all names; without one they stand here.
    """

    def written(name: str) -> str:
        return argument(option, name) if option else shlex.quote(name)

    close = " or ".join(map(written, near(asked, names)[:3]))
    listed = f"all of them: {see}" if see and (close or len(names) > SHOWN) else ""
    one_of = "one of " if len(names) > 1 else ""
    before = f"{argument(option)} " if option else ""
    listed = listed or f"{before}{one_of}{', '.join(map(shlex.quote, names))}"
    return f"did you mean {close}? {listed}" if close else listed


@contextmanager
def in_python() -> Iterator[None]:
    """Let what is said meanwhile name arguments of Python, not options of the command line."""
    before = _IN_PYTHON.set(True)
    try:
        yield
    finally:
        _IN_PYTHON.reset(before)


def is_in_python() -> bool:
    """Whether who reads what is said called a function, not a command."""
    return _IN_PYTHON.get()


def argument(name: str, *values: object) -> str:
    """An option as its reader writes it: `--shots 1,4`, or `shots=[1, 4]` in Python.

    Args:
        name: as the command line has it, without dashes.
        values: what is to be given; none where the option alone is meant.
    """
    if is_in_python():
        word = name.replace("-", "_")
        return f"{word}={quoted(values[0] if len(values) == 1 else values)}" if values else word
    return f"--{name} {shlex.quote(','.join(map(str, values)))}" if values else f"--{name}"


def quoted(value: Any) -> str:
    """A value as it is written in Python; several of any kind as a list."""
    return json.dumps(value, default=lambda x: x.tolist() if hasattr(x, "tolist") else list(x))
