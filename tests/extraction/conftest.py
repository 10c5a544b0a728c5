import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cacheclip.extraction.plan import ExtractRequest
from tests.makers import save_tower

MODEL = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 10, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="session")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a small open_clip model of random weights, config and checkpoint."""
    folder = tmp_path_factory.mktemp("encoders") / "tower"
    folder.mkdir()
    save_tower("test-tower", MODEL, folder / "open_clip_pytorch_model.bin", seed=2)
    described = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    (folder / "preprocess.json").write_text(json.dumps(PREPROCESS))
    return folder


Asked = Callable[..., ExtractRequest]


@pytest.fixture
def asked(tower: Path) -> Asked:
    """Give a request for a data set, encoded with the small tower."""

    def ask(dataset: str | Path, **changes: object) -> ExtractRequest:
        told = {"dataset": str(dataset), "model": f"local-dir:{tower}", "device": "cpu"}
        return ExtractRequest(**{**told, **changes})  # type: ignore[arg-type]

    return ask


Painter = Callable[[Path, int], None]


@pytest.fixture
def paint() -> Painter:
    """Give what writes a small picture, another one for every number."""

    def write(path: Path, number: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(levels).save(path)

    return write


@pytest.fixture
def pets(tmp_path: Path, paint: Painter) -> Path:
    """Give a folder of 60 pictures in two classes."""
    for number in range(60):
        paint(tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number:03d}.png", number)
    return tmp_path / "pets"
