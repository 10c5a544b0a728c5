"""The log of extractions: which feature set was asked for last, and what asked for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cacheclip.log import read_log

_TOLD = {"dataset": str, "set": str, "text": str | None, "root": str | None}


def read_extractions(log: Path) -> tuple[list[dict[str, Any]], int]:
    """The extractions of a log, oldest first, and how many lines are left out as none.

    Raises:
        StoreError: it may not be read.
    """
    lines, left_out = read_log(log)
    own = [line for line in lines if _is_extraction(line)]
    return own, left_out + len(lines) - len(own)


def encoder_of(line: Mapping[str, Any]) -> dict[str, str]:
    """What a line of the log tells of the encoder; empty texts where it does not."""
    return {
        "name": str(line.get("model") or ""),
        "pretrained": str(line.get("pretrained") or ""),
    }


def _is_extraction(line: Mapping[str, Any]) -> bool:
    return all(name in line and isinstance(line[name], kind) for name, kind in _TOLD.items())
