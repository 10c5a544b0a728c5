"""Data sets in a folder of their own below the data root: find the folder, check the pictures."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cacheclip.errors import InputError


def candidates(data_root: Path, names: Sequence[str]) -> list[Path]:
    """The folders that may hold a data set, best first: below the data root, or it itself."""
    below = [data_root / name for name in names]
    return [data_root, *below] if data_root.absolute().name in names else below


def require_pictures(images: Path, ids: Iterable[str], *, fix: str) -> None:
    """Check that every id is a file below `images`; lists folders, opens nothing.

    Raises:
        InputError: with the count of the missing files and the first five.
    """
    wanted = list(ids)
    present: dict[str, frozenset[str]] = {}
    missing = []
    for sample in wanted:
        folder, _, file = sample.rpartition("/")
        if folder not in present:
            present[folder] = _listing(images / folder)
        if file not in present[folder]:
            missing.append(sample)
    if missing:
        more = ", ..." if len(missing) > 5 else ""
        raise InputError(
            f"{len(missing):,} of {len(wanted):,} pictures are missing: "
            f"{', '.join(missing[:5])}{more}",
            where=str(images),
            fix=fix,
        )


def _listing(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  (names alone, 101,000 of them)
    except OSError:
        return frozenset()
