"""Make the tiny home that every later version must read: `python make_home.py FOLDER`.

Twelve imported rows of eight numbers, a fit with its bundle, predictions and draw, and zero-shot.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ARRAYS = Path("/tmp/cacheclip-frozen-home/toys.npz")  # stands in the home, and is not needed later


def main() -> None:
    home = Path(sys.argv[1])
    shutil.rmtree(home, ignore_errors=True)
    ARRAYS.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    labels = np.arange(12) % 2
    centres = random.normal(size=(2, 8))
    np.savez(
        ARRAYS,
        features=(centres[labels] + random.normal(size=(12, 8))).astype(np.float32),
        labels=labels,
        split=np.array(["train"] * 6 + ["test"] * 6),
        text_features=centres.astype(np.float32),
        logit_scale=np.array(20.0),
        classnames=np.array(["ant", "bee"]),
    )
    for command in (
        f"import {ARRAYS}",
        "fit --method nearest-mean --shots 2 --select fixed",
        "fit --method zero-shot",
    ):
        words = [sys.executable, "-m", "cacheclip", *command.split(), "--home", str(home)]
        subprocess.run(words, check=True)
    for file in [*home.rglob("lock"), *home.rglob("*.lock")]:
        file.unlink()


if __name__ == "__main__":
    main()
