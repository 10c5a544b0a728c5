"""Renders every icon and drawing that may be trained on as a 96-pixel picture.

Writes `pictures.npy` ([n, 96, 96, 3] uint8) and `records.json` into the work folder.
"""

from __future__ import annotations

import argparse
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.clipart.picture import square
from recipes.nano.drawings import read_drawings
from recipes.nano.icons import read_icons, render
from recipes.nano.records import save_records

PROCESSES = 2


def icon_picture(svg: str) -> np.ndarray | None:
    """Gives an icon's pixels ([96, 96, 3] uint8), or None where it does not render."""
    image = render(svg)
    return None if image is None else np.asarray(square(image))


def drawing_picture(png: Path) -> np.ndarray | None:
    """Gives a drawing's pixels ([96, 96, 3] uint8), or None where it is too large or empty."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(png) as image:
                # Few drawings are so large, and they would take most of the time.
                factor = max(1, max(image.size) // 1000)
                pixels = np.asarray(square(image.convert("RGBA").reduce(factor)))
    except Image.DecompressionBombError:
        return None
    return pixels if pixels.std() > 1 else None


def main() -> None:
    """Renders and saves all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True, help="what fetch.sh fetched")
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    root = arguments.sources / "deb/usr/share/openclipart"
    icons = read_icons(arguments.sources / "npm/node_modules")
    drawings = read_drawings(root)
    with ProcessPoolExecutor(PROCESSES) as pool:
        pixels = list(pool.map(icon_picture, [svg for _, svg in icons], chunksize=64))
        paths = [root / "png" / record.concept for record in drawings]
        pixels += list(pool.map(drawing_picture, paths, chunksize=16))
    records = [record for record, _ in icons] + drawings
    kept = [i for i, picture in enumerate(pixels) if picture is not None]
    arguments.work.mkdir(parents=True, exist_ok=True)
    np.save(arguments.work / "pictures.npy", np.stack([pixels[i] for i in kept]))
    save_records([records[i] for i in kept], arguments.work / "records.json")
    print(f"{len(kept)} pictures, {len(pixels) - len(kept)} could not be rendered")


if __name__ == "__main__":
    main()
