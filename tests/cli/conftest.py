"""A folder of small pictures, a small random encoder, and a home extracted with both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run as extract
from cacheclip.store.home import Home
from tests.makers import Said, cacheclip, save_tower

CLASSES = {"blue": (30, 30, 220), "green": (30, 200, 30), "red": (220, 30, 30)}
CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}

Shell = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class World:
    pictures: Path
    model: str
    weights: Path
    preprocess: Path
    home: Path
    config: dict[str, Any]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    random = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (root / "colours" / name).mkdir(parents=True)
        for k in range(15):
            noisy = np.array(colour) + random.normal(0, 40, size=(24, 24, 3))
            pixels = noisy.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "colours" / name / f"{k:02}.png")
    folder = root / "tiny"
    folder.mkdir()
    described = {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    (root / "preprocess.json").write_text(json.dumps(PREPROCESS))
    weights = folder / "open_clip_pytorch_model.bin"
    save_tower("tests-cli-tiny", CONFIG, weights, seed=1)
    model = f"local-dir:{folder}"
    home = Home(root / "home")
    extract(ExtractRequest(dataset=str(root / "colours"), model=model), home)
    return World(root / "colours", model, weights, root / "preprocess.json", home.root, CONFIG)


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    """Run the installed command as a user would; no hub answers, and no home but the test's."""

    def run(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "CACHECLIP_HOME": str(home or world.home),
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HOME": str(tmp_path / "hub"),
        }
        return subprocess.run(
            [sys.executable, "-m", "cacheclip", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    return run


@pytest.fixture
def cli(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], Said]:
    """Run a command in this process, with the exit code and three lines of the real `main`."""
    monkeypatch.setenv("CACHECLIP_HOME", str(world.home))

    def run(arguments: Sequence[str]) -> Said:
        return cacheclip(*arguments)

    return run
