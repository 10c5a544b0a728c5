"""Renders the part of nano's training pictures that takes part, thing by thing in a hash's order.

Writes `pictures.npy` and `records.json` as nano's step does; its `holdout` step takes out next what
is near a `clipart` picture.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from recipes.nano.captions import held_out
from recipes.nano.drawings import read_drawings
from recipes.nano.icons import read_icons
from recipes.nano.pictures import drawing_picture, icon_picture
from recipes.nano.records import Record, save_records
from recipes.silc.config import read_config


def choose(records: list[Record], count: int) -> list[int]:
    """Gives the numbers of `count` pictures, none of a thing that nano's settings judged by."""
    names = [f"silc/{record.concept}/{record.id}" for record in records]
    things = [hashlib.sha256(record.concept.encode()).digest() for record in records]
    allowed = np.flatnonzero(~held_out(records))
    return sorted(sorted(allowed, key=lambda i: (things[i][1:], names[i]))[:count])


def main() -> None:
    """Renders and saves the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True, help="what fetch.sh fetched")
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    root = arguments.sources / "deb/usr/share/openclipart"
    icons = read_icons(arguments.sources / "npm/node_modules")
    records = [record for record, _ in icons] + read_drawings(root)
    chosen, pixels = [], []
    for i in choose(records, read_config().pictures):
        drawn = i >= len(icons)
        picture = (
            drawing_picture(root / "png" / records[i].concept)
            if drawn
            else icon_picture(icons[i][1])
        )
        if picture is not None:
            chosen.append(records[i])
            pixels.append(picture)
    np.save(arguments.work / "pictures.npy", np.stack(pixels))
    save_records(chosen, arguments.work / "records.json")
    print(f"{len(chosen)} pictures of {len({record.concept for record in chosen})} things")


if __name__ == "__main__":
    main()
