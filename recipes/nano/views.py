"""Runs the lower part of the image trunk once over several views of each training picture.

The lower part stays as ImageNet left it, so its output can be kept: `views.npy`
([views, n, 112, 8, 8] float16), the first view unchanged, the others augmented.
"""

from __future__ import annotations

import argparse
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from recipes.nano.augment import change, enlarge
from recipes.nano.model import build_model
from recipes.nano.records import load_records

SEED = 1
N_VIEWS = 5
# Blocks of the trunk below the cut, and what they give for one picture.
CUT, SHAPE = 5, (112, 8, 8)
BATCH = 128
SIDED = re.compile(r"left|right|clockwise|letter|\b[a-z]\b|\d")


def prepare(index: int, pixels: np.ndarray, view: int, title: str) -> np.ndarray:
    """Gives one view of a picture ([128, 128, 3] uint8)."""
    image = Image.fromarray(pixels)
    if view == 0:
        return np.asarray(enlarge(image))
    rng = np.random.default_rng((SEED, view, index))
    return np.asarray(change(image, rng, may_mirror=not SIDED.search(title)))


def to_input(pixels: np.ndarray) -> Tensor:
    """Gives what the encoder's preprocessing gives: [n, 3, 128, 128] between -1 and 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def lower(trunk: nn.Module, x: Tensor) -> Tensor:
    """Gives the output of the part of the trunk that is never trained."""
    return trunk.blocks[:CUT](trunk.bn1(trunk.conv_stem(x)))


def main() -> None:
    """Computes and saves the views."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    pixels, records = np.load(work / "train.npy"), load_records(work / "train.json")
    trunk = build_model().visual.trunk.eval()
    shape = (N_VIEWS, len(pixels), *SHAPE)
    out = np.lib.format.open_memmap(work / "views.npy", "w+", np.float16, shape)
    indices = range(len(pixels))
    titles = [record.title for record in records]
    start = time.monotonic()
    with ProcessPoolExecutor(1) as pool, torch.inference_mode():
        for view in range(N_VIEWS):
            made = pool.map(prepare, indices, pixels, [view] * len(pixels), titles, chunksize=BATCH)
            for first in range(0, len(pixels), BATCH):
                batch = np.stack([next(made) for _ in indices[first : first + BATCH]])
                out[view, first : first + BATCH] = lower(trunk, to_input(batch)).numpy()
            print(f"view {view + 1} of {N_VIEWS}, {time.monotonic() - start:.0f} s", flush=True)
    out.flush()


if __name__ == "__main__":
    main()
