"""Makes scenes of `clipart` drawings with boxes, a folder for each seed.

Run from the repository root: `python -m recipes.scenes.make --out build/scenes --seeds 5`. It
writes `build/scenes-1` to `build/scenes-5`, each with `train.json`, `test.json` and the pictures,
the same bytes for the same seed and Pillow version.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cacheclip.datasets.scenes import NOVEL, make_scenes


def main() -> None:
    """Writes the scenes that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folders, less their numbers")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 1 to this one")
    parser.add_argument("--train", type=int, default=60, help="scenes of training drawings")
    parser.add_argument("--test", type=int, default=60, help="scenes of test drawings")
    parser.add_argument("--novel", default=",".join(NOVEL), help="classes without annotations")
    asked = parser.parse_args()
    for seed in range(1, asked.seeds + 1):
        folder = asked.out.with_name(f"{asked.out.name}-{seed}")
        novel = asked.novel.split(",")
        make_scenes(folder, seed=seed, train=asked.train, test=asked.test, novel=novel)
        print(f"{folder}: {asked.train} training and {asked.test} test scenes")


if __name__ == "__main__":
    main()
