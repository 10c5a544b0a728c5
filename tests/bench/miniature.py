"""The bench in miniature; run as a program it stands in the place of a Python for a bench."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cacheclip.bench import extract, family, kernels, machine, record, search, startup, train
from cacheclip.bench.shapes import SHAPES, Shape
from cacheclip.cli.main import main as cli

TINY = Shape("tiny", dim=32, classes=5, shots=16, test=40, epochs=4)


def shrunk(patch: pytest.MonkeyPatch) -> Shape:
    """Every shape is tiny, and so is what is timed of it."""
    for name in SHAPES:
        patch.setitem(SHAPES, name, TINY)
    patch.setattr(train, "BUDGET", {"cpu": 1e6})
    patch.setattr(family, "SECONDS", 0.005)
    patch.setattr(kernels, "BUDGET", {"cpu": 1e6})
    patch.setattr(search, "POINTS", 4)
    patch.setattr(search, "SHOTS", (1, 2))
    patch.setattr(search, "SEEDS", (1,))
    patch.setattr(search, "PENALTIES", (0.1, 1.0))
    patch.setattr(search, "ROUNDS", 1)
    patch.setattr(machine, "COPIED", 2**16)
    patch.setattr(machine, "WIDTH", {"cpu": 32})
    patch.setattr(record, "ROUNDS", 1)
    return TINY


def photographed(root: Path) -> Path:
    """Class folders of a few noisy pictures."""
    random = np.random.default_rng(0)
    for name, colour in {"blue": (30, 30, 220), "green": (30, 200, 30)}.items():
        (root / name).mkdir(parents=True)
        for k in range(10):
            noisy = np.array(colour) + random.normal(0, 40, size=(24, 24, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{k}.png")
    return root


def main() -> None:
    """`-m cacheclip bench ...`, as a Python takes it."""
    arguments = sys.argv[2:]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        shrunk(patch)
        patch.setattr(extract, "DATASET", str(photographed(Path(folder) / "colours")))
        helped = startup._case("--help", (*startup.COMMAND, "--help"), startup.BARE)
        patch.setattr(startup, "cases", lambda setup: [helped])
        arguments[arguments.index("--variants") + 1] = "2"
        if "food101-vitb32" not in arguments:  # all shapes are one
            arguments = [word for word in arguments if word not in ("train", "search")]
        patch.setattr(sys, "argv", arguments)
        cli()


if __name__ == "__main__":
    main()
