"""The bench in miniature: tiny shapes and budgets, one round."""

from pathlib import Path

import pytest
import torch

from cacheclip.bench.harness import Setup
from cacheclip.bench.machine import Rates
from cacheclip.bench.shapes import Shape
from tests.bench.miniature import photographed, shrunk


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Shape:
    return shrunk(monkeypatch)


@pytest.fixture
def setup(tiny: Shape) -> Setup:
    return Setup(tiny, 3, torch.device("cpu"), Rates(1e9, {"fp32": 1e9}), rounds=1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographed(tmp_path_factory.mktemp("pictures") / "colours")
