"""Draws crops of the training pictures and keeps what the frozen lower trunk gives on them.

Writes `global.npy` ([views, n, c, s, s] float16) and `local.npy` into the work folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recipes.nano.model import build_model
from recipes.silc.config import Config, Crops, read_config

BATCH = 100
RATIO = 4 / 3
COLOUR, LIGHT, GRAY_SHARE = 0.5, 0.3, 0.15


def crop(pixels: Tensor, crops: Crops, rng: torch.Generator) -> Tensor:
    """Gives one crop of each picture at the crops' size, perhaps mirrored.

    Args:
        pixels: [n, 3, h, w] between -1 and 1.
        crops: Size and area.
        rng: Where place, area, ratio and mirroring are drawn from.

    Returns:
        [n, 3, side, side].
    """
    n = len(pixels)
    low, high = crops.area
    area = low + (high - low) * torch.rand(n, generator=rng)
    ratio = RATIO ** (2 * torch.rand(n, generator=rng) - 1)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    x, y = (2 * torch.rand(2, n, generator=rng) - 1) * (1 - torch.stack([width, height]))
    mirrored = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    zero = torch.zeros(n)
    rows = [torch.stack([mirrored * width, zero, x], 1), torch.stack([zero, height, y], 1)]
    size = [n, 3, crops.side, crops.side]
    grid = functional.affine_grid(torch.stack(rows, dim=1), size, align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def recolour(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Gives the crops ([n, 3, h, w]) with other strength of colour and of light; some are gray."""
    n = len(pixels)
    strength = 1 + COLOUR * (2 * torch.rand(n, 1, 1, 1, generator=rng) - 1)
    strength[torch.rand(n, generator=rng) < GRAY_SHARE] = 0
    light = 1 - LIGHT * torch.rand(n, 1, 1, 1, generator=rng)
    gray = pixels.mean(dim=1, keepdim=True)
    return (gray + strength * (pixels - gray)).clamp(-1, 1) * light + (1 - light)


def lower(trunk: nn.Module, x: Tensor, cut: int) -> Tensor:
    """Gives the output of the part of the trunk that is never trained."""
    x = x.contiguous(memory_format=torch.channels_last)
    return trunk.blocks[:cut](trunk.bn1(trunk.conv_stem(x)))


@torch.inference_mode()
def kept(trunk: nn.Module, pixels: np.ndarray, crops: Crops, config: Config) -> np.ndarray:
    """Gives what the lower trunk says on each crop: [views, n, c, s, s] float16."""
    rng = torch.Generator().manual_seed(config.seed)
    views = []
    start = time.monotonic()
    for view in range(crops.count):
        parts = []
        for part in np.split(pixels, range(BATCH, len(pixels), BATCH)):
            inputs = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1
            drawn = recolour(crop(inputs, crops, rng), rng)
            parts.append(lower(trunk, drawn, config.cut).half().contiguous().numpy())
        views.append(np.concatenate(parts))
        print(f"crop {view + 1} of {crops.count}, {time.monotonic() - start:.0f} s", flush=True)
    return np.stack(views)


def main() -> None:
    """Draws, computes and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    config = read_config()
    pixels = np.load(work / "train.npy")
    trunk = build_model().visual.trunk.eval().to(memory_format=torch.channels_last)
    np.save(work / "global.npy", kept(trunk, pixels, config.global_crops, config))
    np.save(work / "local.npy", kept(trunk, pixels, config.local_crops, config))


if __name__ == "__main__":
    main()
