"""Icons with captions: SVG bodies of the icon sets, joined with the names and tags of emoji.

An icon is found among the emoji by its code point where its set lists one, else by its name, else
by the old Unicode name of the character. Sets that are no emoji keep their own names.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from recipes.nano.records import Record

# Set -> whether an icon that is no emoji is kept under its own name.
SETS = {
    "noto": False,
    "noto-v1": False,
    "fluent-emoji": False,
    "fluent-emoji-flat": False,
    "fxemoji": False,
    "flat-color-icons": True,
    "meteocons": True,
}
RENDER_SIDE = 192
# Words of emoji sub-groups that say nothing about the picture.
EMPTY_WORDS = {"other", "symbol", "alphanum", "prop"}


def squeeze(name: str) -> str:
    """Gives a name without case and punctuation, so that spellings of one name agree."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def load_emoji(folder: Path) -> tuple[list[dict], dict[str, dict]]:
    """Gives the emoji (no skin tones) and their look-up by squeezed name and by code point.

    Args:
        folder: The package `emojibase-data`.
    """
    entries = [e for e in json.loads((folder / "en/data.json").read_text()) if "group" in e]
    groups = json.loads((folder / "meta/groups.json").read_text())
    short = json.loads((folder / "en/shortcodes/emojibase.json").read_text())
    found: dict[str, dict] = {}
    for entry in entries:
        code = entry["hexcode"]
        points = [int(part, 16) for part in code.split("-") if part != "FE0F"]
        names = [entry["label"]]
        named = short.get(code, [])
        names += [named] if isinstance(named, str) else named
        if len(points) == 1:
            names.append(unicodedata.name(chr(points[0]), ""))
        sub = groups["subgroups"][str(entry["subgroup"])]
        main = groups["groups"][str(entry["group"])]
        words = [*re.split(r"[-\s]", sub), sub.replace("-", " "), *main.split("-")]
        entry["sub"] = sub
        entry["words"] = [w for w in words if w not in EMPTY_WORDS]
        found.setdefault("#" + "-".join(f"{p:X}" for p in points), entry)
        for name in filter(None, map(squeeze, names)):
            found.setdefault(name, entry)
    return entries, found


def captions(entry: dict) -> tuple[str, list[str]]:
    """Gives title and tags of an emoji."""
    title = re.sub(r"^flag: ", "flag of ", entry["label"])
    tags = [tag.lower() for tag in entry.get("tags", [])] + entry["words"]
    return title, list(dict.fromkeys(tag for tag in tags if tag != title))


def read_icons(modules: Path) -> list[tuple[Record, str]]:
    """Gives every icon that has a caption, with its SVG text.

    Args:
        modules: The folder `node_modules`.
    """
    _, found = load_emoji(modules / "emojibase-data")
    by_icon: dict[str, dict] = {}
    for name in SETS:
        chars = modules / "@iconify-json" / name / "chars.json"
        if chars.exists():
            for code, icon in json.loads(chars.read_text()).items():
                points = [p for p in code.upper().split("-") if p != "FE0F"]
                if "#" + "-".join(points) in found:
                    by_icon.setdefault(icon, found["#" + "-".join(points)])
    result = []
    for name, keeps_own in SETS.items():
        data = json.loads((modules / "@iconify-json" / name / "icons.json").read_text())
        for icon, body in data["icons"].items():
            base = icon.removesuffix("-fill") if name == "meteocons" else icon
            entry = by_icon.get(icon) or found.get(squeeze(base))
            if keeps_own:
                title, tags, concept = base.replace("-", " "), ["icon"], f"{name}/{base}"
                group = ""
            elif entry is not None:
                title, tags = captions(entry)
                concept, group = entry["hexcode"], entry["sub"]
            else:
                continue
            width, height = (body.get(k, data.get(k, 16)) for k in ("width", "height"))
            svg = (
                '<svg xmlns="http://www.w3.org/2000/svg" '
                'xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{body.get("left", 0)} {body.get("top", 0)} {width} {height}">'
                f"{body['body']}</svg>"
            )
            record = Record(f"{name}/{icon}", name, concept, title, tags, group)
            result.append((record, svg))
    return result


def render(svg: str) -> Image.Image | None:
    """Gives the icon as RGBA picture, or None where it cannot be rendered or shows nothing.

    Args:
        svg: SVG text.
    """
    try:
        data = resvg_py.svg_to_bytes(svg_string=svg, width=RENDER_SIDE)
    except ValueError:
        return None
    with Image.open(io.BytesIO(bytes(data))) as image:
        rgba = image.convert("RGBA")
    return rgba if np.asarray(rgba)[..., 3].any() else None
