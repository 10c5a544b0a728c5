"""The bench in miniature: tiny shapes and budgets, one round."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cacheclip.bench import family, kernels, machine, record, search, train
from cacheclip.bench.harness import Setup
from cacheclip.bench.machine import Rates
from cacheclip.bench.shapes import SHAPES, Shape

TINY = Shape("tiny", dim=32, classes=5, shots=16, test=40, epochs=4)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Shape:
    """Every shape is tiny, and so is what is timed of it."""
    for name in SHAPES:
        monkeypatch.setitem(SHAPES, name, TINY)
    monkeypatch.setattr(train, "BUDGET", {"cpu": 1e6})
    monkeypatch.setattr(family, "SECONDS", 0.005)
    monkeypatch.setattr(kernels, "BUDGET", {"cpu": 1e6})
    monkeypatch.setattr(search, "POINTS", 4)
    monkeypatch.setattr(machine, "COPIED", 2**16)
    monkeypatch.setattr(machine, "WIDTH", {"cpu": 32})
    monkeypatch.setattr(record, "ROUNDS", 1)
    return TINY


@pytest.fixture
def setup(tiny: Shape) -> Setup:
    return Setup(tiny, 3, torch.device("cpu"), Rates(1e9, {"fp32": 1e9}), rounds=1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of a few noisy pictures."""
    root = tmp_path_factory.mktemp("pictures") / "colours"
    random = np.random.default_rng(0)
    for name, colour in {"blue": (30, 30, 220), "green": (30, 200, 30)}.items():
        (root / name).mkdir(parents=True)
        for k in range(10):
            noisy = np.array(colour) + random.normal(0, 40, size=(24, 24, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{k}.png")
    return root
