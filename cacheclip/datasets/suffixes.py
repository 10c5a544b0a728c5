"""Which files are pictures, by the ends of their names, and one line about those not read."""

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

AVIF = frozenset({".avif", ".avifs"})
HEIF = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
EXTENSIONS = (
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif"})
    | {".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
    | AVIF
    | HEIF
)
"""What is a picture; some of them are read only where a decoder for them is installed."""

INSTALL_HEIF = "pip install 'cacheclip[heic]'"
INSTALL_AVIF = "pip install --upgrade pillow"
# What lies beside pictures and is none, so that no one misses it.
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
TEXTS = (
    frozenset({".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".xmp", ".aae"})
    | {".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".log", ".htm", ".html", ".py", ".sh"}
    | {".ipynb", ".tex", ".bib", ".sha256", ".md5", ".lst", ".names", ".url"}
)
TEXT_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "notice", "changelog", "authors"}
)


@cache
def readable() -> frozenset[str]:
    """The extensions of pictures that can be read here: HEIC and AVIF need a decoder."""
    lacking = frozenset[str]()
    if not has_heif():
        lacking |= HEIF
    if not _has_avif():
        lacking |= AVIF
    return EXTENSIONS - lacking


def has_heif() -> bool:
    """Whether the extra that reads HEIC is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def _has_avif() -> bool:
    from PIL import features

    return "avif" in features.modules and bool(features.check("avif"))


def suffix(path: str | Path) -> str:
    """The end of a file's name in lower case, ".jpg"; "" where there is none."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  (a hundred thousand of them)


def unread(paths: Iterable[str | Path]) -> str | None:
    """One line on the files that were not taken as pictures: how many, by suffix, and what helps.

    Hidden files, those that systems leave (`Thumbs.db`) and texts do not count.

    Args:
        paths: the files that were left out.

    Returns:
        "4 files not read: .heic 4 (pip install 'cacheclip[heic]')", or None where none count.
    """
    counts = Counter(suffix(path) for path in paths if _may_be_missed(os.path.basename(path)))  # noqa: PTH119
    if not counts:
        return None
    groups: dict[str, list[str]] = {}
    for end, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        groups.setdefault(_help(end), []).append(f"{end or 'no suffix'} {count:,}")
    listed = ", ".join(
        ", ".join(ends) + (f" ({help_})" if help_ else "") for help_, ends in groups.items()
    )
    total = counts.total()
    return f"{total:,} file{'s' if total > 1 else ''} not read: {listed}"


def _may_be_missed(name: str) -> bool:
    """Whether someone may think that this file is a picture."""
    stem, end = os.path.splitext(name.lower())  # noqa: PTH122
    if name.startswith(".") or name.lower() in SYSTEM_FILES or end in TEXTS:
        return False
    return bool(end) or stem not in TEXT_NAMES


def _help(end: str) -> str:
    """What to do about files of this suffix, or why they were left out."""
    if end in readable():
        return "not a regular file"
    if end in HEIF:
        return INSTALL_HEIF
    return INSTALL_AVIF if end in AVIF else ""
