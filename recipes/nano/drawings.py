"""Clip art with captions: drawings of the openclipart packages outside the folders of `clipart`.

Title and keywords come from the drawing's own metadata. A drawing is left out whose SVG does not
state the public domain, and nothing else.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from recipes.clipart.make import CLASSES, is_public_domain
from recipes.nano.records import Record

# Folders that hold the 20 classes of `clipart`: none of their pictures is trained on, in the data
# set or not. A trailing slash takes the folders below too.
HELD_OUT_FOLDERS = (
    "animals",
    "animals/birds/",
    "animals/bugs/",
    "animals/mammals/",
    "buildings",
    "buildings/homes/",
    "computer/hardware/",
    "food/beverages/",
    "food/desserts/",
    "food/fruit/",
    "geography",
    "people",
    "people/clothing/",
    "people/stickmen/",
    "plants/",
    "recreation/games/cards/",
    "recreation/music/",
    "shapes/arrows/",
    "signs_and_symbols/flags/",
    "special/patterns/",
    "tools",
    "transportation",
    "transportation/boating/",
    "transportation/roadsigns/",
    "transportation/vehicles/",
    "unsorted/",
)
# Star polygons fill a folder of 1378; one in this many is kept.
STARS, STAR_STEP = "shapes/stars/", 14
EMPTY_KEYWORDS = {"icons", "theme", "clip art", "clipart", "unsorted", "special", "hash", "image"}
COLLECTION = re.compile(r"collection|theme|clipart by|part of|aiga|untitled|^no ?title", re.I)


def is_held_out(path: str) -> bool:
    """Says whether a drawing lies in a folder of the 20 classes."""
    folder = path.rsplit("/", 1)[0]
    return any(
        (folder + "/").startswith(held) if held.endswith("/") else folder == held
        for held in HELD_OUT_FOLDERS
    )


def words(text: str | None) -> str:
    """Gives a metadata text or file name as plain lower-case words."""
    text = re.sub(r"[_\-.()\[\]]+|(?<=\d)(?=[a-z])", " ", (text or "").lower())
    return re.sub(r"\s+", " ", re.sub(r"\b\d+\b", " ", text)).strip()


def metadata(svg: Path) -> tuple[str, list[str]]:
    """Gives the title and the keywords that a drawing states."""
    title, keywords = "", []
    for element in ET.parse(svg).iter():
        if element.tag.rsplit("}", 1)[-1] != "Work":
            continue
        for child in element:
            kind = child.tag.rsplit("}", 1)[-1]
            if kind == "title":
                title = child.text or ""
            elif kind == "subject":
                keywords += [item.text or "" for item in child.iter() if item.tag.endswith("}li")]
    return title, keywords


def read_drawings(root: Path) -> list[Record]:
    """Gives a record for each drawing that may be trained on.

    Args:
        root: Folder that holds `png` and `svg`.
    """
    chosen = {path for paths in json.loads(CLASSES.read_text()).values() for path in paths}
    found = []
    stars = 0
    for png in sorted((root / "png").rglob("*.png")):
        path = png.relative_to(root / "png").as_posix()
        svg = (root / "svg" / path).with_suffix(".svg")
        if png.is_symlink() or not svg.exists() or path in chosen or is_held_out(path):
            continue
        if path.startswith(STARS):
            stars += 1
            if stars % STAR_STEP:
                continue
        try:
            allowed = is_public_domain(svg)
        except ET.ParseError:
            continue
        if allowed:
            found.append((path, *metadata(svg)))
    times = Counter(title for _, title, _ in found)
    records = []
    for path, title, keywords in found:
        # A title that many drawings share names their collection.
        if COLLECTION.search(title) or times[title] > 5 or not words(title):
            title = path.rsplit("/", 1)[-1].removesuffix(".png")
        folders = [words(part) for part in path.split("/")[:-1]]
        tags = [words(word) for word in keywords if not word.startswith("hash(")] + folders[-2:]
        tags = [tag for tag in dict.fromkeys(tags) if tag and tag not in EMPTY_KEYWORDS]
        name = words(title) or folders[-1]
        group = path.rsplit("/", 1)[0]
        records.append(Record(f"openclipart/{path}", "openclipart", path, name, tags, group))
    return records
