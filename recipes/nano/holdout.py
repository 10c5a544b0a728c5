"""Keeps every picture out of training that is one of `clipart`'s or near one of them.

Three tests, each against all pictures of `clipart`: the mean squared difference at 16 x 16 pixels,
the cosine of the edge maps, and the Hamming distance of their sign bits. The third is what the
shipped hashes let anybody repeat. Its threshold stands on known near-duplicates: recoloured,
coarsened and posterised copies of the `clipart` pictures; 24 bits hold about 95 % of them.

Writes `train.npy`, `train.json` and the two hash files into the work folder.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.nano.picture_hash import edge_map, picture_hash
from recipes.nano.records import load_records, save_records

ARCHIVE = Path("cacheclip/assets/clipart/images.zip")
MAX_DIFFERENCE, MAX_COSINE, MAX_BITS = 0.004, 0.86, 24


def read_clipart() -> list[Image.Image]:
    """Gives the pictures of the shipped data set."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return [
            Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in archive.namelist()
        ]


def thumbnails(images: list[Image.Image]) -> np.ndarray:
    """Gives [n, 768] float32: 16 x 16 RGB pixels between 0 and 1."""
    small = [image.resize((16, 16), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])


def edges(images: list[Image.Image]) -> np.ndarray:
    """Gives [n, 256] float32: the edge maps at unit length; 0 for a blank picture."""
    maps = np.stack([edge_map(image).ravel() for image in images])
    return maps / np.maximum(np.linalg.norm(maps, axis=1, keepdims=True), 1e-9)


def hashes(images: list[Image.Image]) -> np.ndarray:
    """Gives [n, 32] uint8."""
    return np.frombuffer(b"".join(map(picture_hash, images)), np.uint8).reshape(-1, 32)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Gives [n, m] Hamming distances in bits between two sets of hashes."""
    signs = [2.0 * np.unpackbits(rows, axis=1).astype(np.float32) - 1 for rows in (a, b)]
    return (256 - signs[0] @ signs[1].T) / 2


def known_copies() -> dict[str, Callable[[Image.Image], Image.Image]]:
    """Gives ways to make a near-duplicate of a picture."""

    def turn_hue(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        turned = hue.point(lambda level: (level + 85) % 256)
        return Image.merge("HSV", (turned, saturation, value)).convert("RGB")

    def coarsen(image: Image.Image) -> Image.Image:
        return image.resize((48, 48), Image.Resampling.LANCZOS).resize((96, 96))

    def posterise(image: Image.Image) -> Image.Image:
        return image.point(lambda level: level & 0b11000000)

    return {"hue turned": turn_hue, "halved": coarsen, "4 levels a channel": posterise}


def main() -> None:
    """Filters the pictures and hashes what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    pixels, records = np.load(work / "pictures.npy"), load_records(work / "records.json")
    pictures, clipart = [Image.fromarray(p) for p in pixels], read_clipart()
    ours, theirs = thumbnails(pictures), thumbnails(clipart)
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)
    like = (squares - 2 * ours @ theirs.T) / ours.shape[1] < MAX_DIFFERENCE
    edged = edges(pictures) @ edges(clipart).T > MAX_COSINE
    hashed, clipart_hashes = hashes(pictures), hashes(clipart)
    bits = distances(hashed, clipart_hashes)
    near = (like | edged).any(axis=1)
    kept = ~near & (bits.min(axis=1) > MAX_BITS)
    shares = {}
    for name, copy in known_copies().items():
        copies = np.unpackbits(hashes([copy(image) for image in clipart]), axis=1)
        moved = (copies != np.unpackbits(clipart_hashes, axis=1)).sum(axis=1)
        shares[name] = round(float((moved <= MAX_BITS).mean()), 3)
    chosen = [record for record, keep in zip(records, kept, strict=True) if keep]
    np.save(work / "train.npy", pixels[kept])
    save_records(chosen, work / "train.json")
    (work / "train_hashes.bin").write_bytes(hashed[kept].tobytes())
    facts = {
        "count": int(kept.sum()),
        "bytes_each": 32,
        "hash": "sign bits of the mean-free 16 x 16 map of gray gradient magnitude at 96 pixels",
        "max_near_duplicate_bits": MAX_BITS,
        "how_set": "share of known near-duplicates of the clipart pictures at most that far away",
        "known_near_duplicates": shares,
        "nearest_kept_bits": int(bits[kept].min()),
        "removed_by_pixels_or_edges": int(near.sum()),
        "removed_by_hash_alone": int((~near & ~kept).sum()),
    }
    (work / "train_hashes.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))
    print(Counter(record.source for record in chosen))


if __name__ == "__main__":
    main()
