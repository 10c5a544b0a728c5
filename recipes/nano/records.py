"""One training picture's record, and the file that holds them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """A picture with its captions.

    Attributes:
        id: Source and name within it.
        source: Icon set, or `openclipart`.
        concept: What is drawn; drawings of one emoji in several sets share it, so that they stay on
            one side of the held-out split.
        title: The caption.
        tags: Further words for it.
        group: The sub-group of emoji or the folder of drawings it belongs to; empty if neither.
    """

    id: str
    source: str
    concept: str
    title: str
    tags: list[str]
    group: str


def save_records(records: list[Record], path: Path) -> None:
    """Writes records as JSON, one a line."""
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    path.write_text(f"[\n{lines}\n]\n")


def load_records(path: Path) -> list[Record]:
    """Reads what `save_records` wrote."""
    return [Record(**fields) for fields in json.loads(path.read_text())]
