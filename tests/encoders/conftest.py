import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.makers import save_tower

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TOWERS: Mapping[str, Mapping[str, Any]] = {
    "test-vit": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": TEXT,
    },
    "test-vit-wide": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 16},
        "text_cfg": {**TEXT, "width": 64},
    },
    "test-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
    "test-timm": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "test_efficientnet",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
    "test-timm-mlp": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "test_efficientnet",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "mlp",
        },
        "text_cfg": TEXT,
    },
}


@dataclass(frozen=True)
class Tower:
    name: str
    model: Any
    checkpoint: Path
    preprocess: Path


@pytest.fixture(scope="session")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tower]:
    """Give a small tower with random weights, as open_clip built it and as a checkpoint file."""
    folder = tmp_path_factory.mktemp("towers")
    preprocess = folder / "preprocess.json"
    preprocess.write_text(json.dumps({"mean": [0.5] * 3, "std": [0.25] * 3}))
    made: dict[str, Tower] = {}

    def make(name: str) -> Tower:
        if name not in made:
            checkpoint = folder / f"{name}.pt"
            model = save_tower(name, TOWERS[name], checkpoint, seed=1)
            made[name] = Tower(name, model, checkpoint, preprocess)
        return made[name]

    return make


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put the hub where nobody answers, with an empty cache, which is given."""
    import huggingface_hub.constants as constants

    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "0"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache
