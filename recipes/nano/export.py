"""Writes the encoder's files into the assets, and the log of the training beside the recipe.

The weights are rounded to half precision.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from recipes.nano.model import MODEL_CFG, PREPROCESS_CFG

ASSETS = Path("cacheclip/assets/nano")
LOG = Path("recipes/nano/log.json")
MAX_BYTES = 10_000_000


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    ASSETS.mkdir(parents=True, exist_ok=True)
    state = torch.load(work / "nano.pt", weights_only=True)
    halves = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in state.items()
    }
    weights = ASSETS / "nano-v1.safetensors"
    save_file(halves, weights)
    if weights.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{weights} has {weights.stat().st_size} bytes, more than {MAX_BYTES}")
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (ASSETS / "nano.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("bpe_4096.txt.gz", "train_hashes.bin", "train_hashes.json"):
        shutil.copyfile(work / name, ASSETS / name)
    steps = ("distil", "train1", "train2")
    log = {step: json.loads((work / f"{step}.json").read_text()) for step in steps}
    LOG.write_text(json.dumps(log) + "\n")
    n_parameters = sum(value.numel() for value in state.values())
    print(f"{weights}: {weights.stat().st_size} bytes, {n_parameters} parameters")


if __name__ == "__main__":
    main()
