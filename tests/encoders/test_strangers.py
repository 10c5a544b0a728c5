"""Encoders that a stranger named or saved: nothing is fetched or run that nobody asked for."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cacheclip.encoders import hub
from cacheclip.encoders.base import EncoderSpec, load
from cacheclip.errors import InputError, MachineError


@pytest.mark.usefixtures("offline")
def test_a_hub_model_that_nobody_asked_for_is_not_even_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(probe: hub.Probe) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub.Probe, "start", look)
    with pytest.raises(MachineError, match="nobody here asked to fetch it") as caught:
        load(EncoderSpec("hf-hub:nobody/nothing", "0123"), fetch=False)
    assert "nobody/nothing: open_clip_config.json and the weights" in caught.value.where
    assert "--fetch" in caught.value.fix
    assert os.environ["HF_HUB_OFFLINE"] == "1"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_weights_that_would_run_code_come_without_advice_to_run_it(
    tower: Callable[[str], Any], tmp_path: Path
) -> None:
    made = tower("test-vit")
    evil = tmp_path / "evil.pt"
    torch.save({"weight": Evil()}, evil)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no pickle at all")
    for path, why in ((evil, "it is a pickle that asks for posix.system"), (broken, "it is no ")):
        spec = EncoderSpec("test-vit", str(path), str(made.preprocess), device="cpu")
        with pytest.raises(InputError, match=why) as caught:
            load(spec)
        assert "weights_only" not in str(caught.value)


def test_a_model_of_fewer_tokens_than_its_tokenizer_gives_is_refused(
    tower: Callable[[str], Any], tmp_path: Path
) -> None:
    import open_clip

    made = tower("test-vit")
    folder = tmp_path / "small"
    folder.mkdir()
    tensors = made.model.state_dict()
    tensors["token_embedding.weight"] = tensors["token_embedding.weight"][:1000].clone()
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    config = json.loads(json.dumps(open_clip.get_model_config("test-vit")))
    config["text_cfg"]["vocab_size"] = 1000
    described = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    encoder = load(EncoderSpec(f"local-dir:{folder}", device="cpu"))
    with pytest.raises(InputError, match="knows 1000 tokens") as caught:
        encoder.encode_texts(["a photo of a cat"])
    assert "local-dir:small" in caught.value.where
