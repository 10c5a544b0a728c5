"""The log of extractions: which feature set was asked for last, and what asked for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cacheclip.files.log import read_log

_TOLD = {"dataset": str, "set": str, "text": str | None, "root": str | None}


@dataclass(frozen=True)
class Extractions:
    """The extractions of a log, oldest first, and how many lines are left out as none."""

    lines: tuple[dict[str, Any], ...]
    left_out: int


def read_extractions(log: Path) -> Extractions:
    """The extractions of a log; commands ask again for each data set, so it is read once.

    Raises:
        StoreError: it may not be read.
    """
    try:
        status = log.stat()
    except OSError:
        return _read(log, None)
    return _read(log, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=2)
def _read(log: Path, stamp: tuple[int, ...] | None) -> Extractions:
    lines, left_out = read_log(log)
    own = [line for line in lines if _is_extraction(line)]
    return Extractions(tuple(own), left_out + len(lines) - len(own))


def encoder_of(line: Mapping[str, Any]) -> dict[str, str]:
    """What a line of the log tells of the encoder; empty texts where it does not."""
    return {
        "name": str(line.get("model") or ""),
        "pretrained": str(line.get("pretrained") or ""),
    }


def _is_extraction(line: Mapping[str, Any]) -> bool:
    return all(name in line and isinstance(line[name], kind) for name, kind in _TOLD.items())
