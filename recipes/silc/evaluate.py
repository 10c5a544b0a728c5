"""Compares the two encoders, and nano: zero-shot on `clipart` and segmentation of composed scenes.

Prints the table of the model card and writes it into the work folder. Intervals are of 95 % over
the seeds of the scenes, by Student's t; the last row is the difference, seed by seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from recipes.nano.evaluate import ASSETS, encode, load
from recipes.silc.config import Config, read_config
from recipes.silc.scenes import compose_scenes, read_drawings
from recipes.silc.segment import least_share, overlap, scores, truth

VALIDATION_SEED = 0
HEAD = (
    "| encoder | zero-shot on `clipart` | mIoU, things given | mIoU, whole picture |\n"
    "| --- | --- | --- | --- |\n"
)


def measure(weights: Path, config: Config) -> tuple[float, np.ndarray]:
    """Gives zero-shot accuracy in percent, and both overlaps of each seed of scenes, [seeds, 2]."""
    model, transform, tokenizer = load(ASSETS / "nano", weights)
    data = json.loads((ASSETS / "clipart/clipart.json").read_text())
    images, texts = encode(model, transform, tokenizer, data)
    labels = torch.tensor([record["label"] for record in data["images"]])
    accuracy = ((images @ texts.T).argmax(dim=1) == labels).float().mean().item()
    drawings, _ = read_drawings("val")
    scenes = compose_scenes(drawings, config.scenes, VALIDATION_SEED)
    least = least_share(scores(model, texts, scenes), truth(scenes))
    drawings, _ = read_drawings("test")
    found = []
    for seed in range(1, config.scene_seeds + 1):
        scenes = compose_scenes(drawings, config.scenes, seed)
        got = overlap(scores(model, texts, scenes), truth(scenes), least)
        found.append((100 * got.given, 100 * got.whole))
    return 100 * accuracy, np.array(found)


def with_interval(values: np.ndarray, sign: str = "") -> str:
    """Gives mean and half-width of the interval of [seeds] values."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():{sign}.1f} ± {half:.1f}"


def row(name: str, accuracy: str, overlaps: Sequence[str]) -> str:
    """Gives a row of the table."""
    return f"| {name} | {accuracy} | {overlaps[0]} | {overlaps[1]} |\n"


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    config = read_config()
    files = {name: work / name / "open_clip_model.safetensors" for name in ("plain", "silc")} | {
        "nano v1": ASSETS / "nano/nano-v1.safetensors"
    }
    found = {name: measure(path, config) for name, path in files.items()}
    table = HEAD
    for name, (accuracy, overlaps) in found.items():
        table += row(name, f"{accuracy:.1f}", [with_interval(values) for values in overlaps.T])
    (plain, without), (silc, having) = found["plain"], found["silc"]
    apart = [with_interval(values, "+") for values in (having - without).T]
    table += row("silc - plain", f"{silc - plain:+.1f}", apart)
    print(table, end="")
    (work / "card.md").write_text(table)


if __name__ == "__main__":
    main()
