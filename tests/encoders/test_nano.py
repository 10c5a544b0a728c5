import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from cacheclip.encoders import nano, open_clip_
from cacheclip.encoders.base import EncoderSpec, load
from cacheclip.errors import UsageError

VOCABULARY = 4096
MODEL: dict[str, Any] = {
    "embed_dim": 24,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "test_efficientnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": VOCABULARY,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a small random model where nano lies, its files as nano's recipe writes them."""
    import open_clip
    from open_clip.tokenizer import default_bpe

    open_clip_.register("made-for-nano", MODEL)
    with open_clip_._quiet():
        model = open_clip.create_model("made-for-nano").half()
    save_file(dict(model.state_dict()), tmp_path / "nano-v1.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    described = {"model_cfg": MODEL, "preprocess_cfg": preprocess}
    (tmp_path / "nano.json").write_text(json.dumps(described))
    with gzip.open(default_bpe()) as whole, gzip.open(tmp_path / "bpe_4096.txt.gz", "wb") as part:
        lines = whole.read().decode().split("\n")[: VOCABULARY - 512 - 2 + 1]
        part.write("\n".join(lines).encode())
    monkeypatch.setattr(nano, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("assets", "offline")
def test_nano_needs_no_tag_and_no_network_and_brings_its_own_vocabulary() -> None:
    encoder = load(EncoderSpec("nano", device="cpu"))
    assert (encoder.identity["name"], encoder.identity["pretrained"]) == ("nano", "v1")
    assert encoder.layers == ("image", "pre-projection")
    assert encoder.preprocess["mean"] == [0.5] * 3
    features, truncated = encoder.encode_texts(["a picture of an extraordinary hippopotamus"])
    assert features.shape == (1, 24)
    assert truncated == 0
    assert load(EncoderSpec("nano", "v1", device="cpu")).identity == encoder.identity


@pytest.mark.usefixtures("assets")
def test_another_version_of_nano_is_not_here() -> None:
    with pytest.raises(UsageError, match="one nano, v1"):
        load(EncoderSpec("nano", "v2"))
