import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from cacheclip.encoders import device, hub, open_clip_
from cacheclip.encoders.base import EncoderSpec, load
from cacheclip.errors import InputError, MachineError, UsageError


@pytest.mark.parametrize(
    ("model", "tag", "right"),
    [
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
        ("RN50", "yfcc15m", "RN50-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "ViT-B-32"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_the_wrong_activation_is_an_error_that_names_the_right_model(
    model: str, tag: str, right: str
) -> None:
    with pytest.raises(UsageError, match="GELU") as caught:
        load(EncoderSpec(model, tag))
    assert caught.value.fix == f"use --model {right}"


@pytest.mark.usefixtures("offline")
def test_unknown_names_are_answered_with_close_ones() -> None:
    for asked, near in (
        ("ViT-B32", "ViT-B-32"),
        ("vit", "ViT-B-16, ViT-B-32,"),
        ("rn50", "RN50-q"),
    ):
        with pytest.raises(UsageError, match="knows no model") as model:
            load(EncoderSpec(asked, "openai"))
        assert model.value.fix.startswith(f"use --model {near}")
    with pytest.raises(UsageError, match="neither a tag") as tag:
        load(EncoderSpec("ViT-B-32", "laion2b_s34b"))
    assert "--model ViT-B-32 --pretrained TAG (laion2b_s34b_b79k" in tag.value.fix
    with pytest.raises(UsageError, match="which weights") as missing:
        load(EncoderSpec("ViT-B-32-quickgelu"))
    assert "openai" in missing.value.fix


@pytest.mark.parametrize("tag", [None, "opena", "anything"])
@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-32-quickgelu", "RN50", "RN50x4"])
@pytest.mark.usefixtures("offline")
def test_no_weights_are_offered_that_the_next_check_would_refuse(
    model: str, tag: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        load(EncoderSpec(model, tag))
    words = re.match(r"use --model (\S+) --pretrained TAG \(([^)]*)\)", caught.value.fix)
    assert words is not None
    for offered in words[2].removesuffix(" ...").split(", "):
        with pytest.raises(MachineError, match="not on this machine"):  # all else was accepted
            load(EncoderSpec(words[1], offered))
    if tag == "opena":
        assert words[2].startswith("openai")


def test_weights_that_are_not_here_and_cannot_be_fetched(offline: Path) -> None:
    with pytest.raises(MachineError) as caught:
        load(EncoderSpec("ViT-B-32-quickgelu", "openai"))
    lines = str(caught.value).splitlines()
    assert caught.value.exit_code == 5
    assert [line.split(":")[0] for line in lines] == ["error", "where", "fix"]
    assert "not on this machine" in lines[0]
    assert "--pretrained FILE --preprocess-from openai" in lines[2]
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # nothing later may fall into the client's retries
    assert not offline.exists()


@pytest.mark.usefixtures("offline")
def test_a_hub_model_that_cannot_be_fetched() -> None:
    with pytest.raises(MachineError, match="could not be fetched"):
        load(EncoderSpec("hf-hub:nobody/nothing"))


def test_weights_in_the_local_cache_load_without_the_hub(
    tower: Callable[[str], Any], offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip.pretrained

    made = tower("test-vit")
    snapshot = offline / "models--nobody--test-vit" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    shutil.copy(made.checkpoint, snapshot / "open_clip_pytorch_model.bin")
    config = {"model_cfg": open_clip.get_model_config("test-vit")}
    (snapshot / "open_clip_config.json").write_text(json.dumps(config))
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123abcd")
    tag = {"hf_hub": "nobody/test-vit/", "quick_gelu": True, "mean": [0.5] * 3, "std": [0.25] * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "test-vit", {"mine": tag})
    by_tag = load(EncoderSpec("test-vit", "mine", device="cpu"))
    by_hub_name = load(EncoderSpec("hf-hub:nobody/test-vit", device="cpu"))
    assert by_tag.identity["pretrained"] == "mine"
    assert by_tag.preprocess["mean"] == [0.5] * 3
    assert by_hub_name.identity["pretrained"] == "0123abcd"  # the revision, resolved
    assert by_hub_name.identity["name"] == "hf-hub:nobody/test-vit"
    assert by_hub_name.identity["weights_sha256"] == by_tag.identity["weights_sha256"]


def test_a_checkpoint_file_must_be_told_its_preprocessing(
    tower: Callable[[str], Any], tmp_path: Path
) -> None:
    made = tower("test-vit")
    spec = EncoderSpec("test-vit", str(made.checkpoint), device="cpu")
    with pytest.raises(InputError, match="how its pictures were prepared") as caught:
        load(spec)
    assert "--preprocess-from TAG" in caught.value.fix
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"mean": [0.5, 0.5, 0.5]}')
    for told in ("nothing-of-this-name", str(wrong)):
        with pytest.raises((InputError, UsageError), match=r"describe preproc|neither a tag"):
            load(EncoderSpec("test-vit", str(made.checkpoint), preprocess_from=told))


def test_files_that_are_no_weights_or_those_of_another_model(
    tower: Callable[[str], Any], tmp_path: Path
) -> None:
    made = tower("test-vit")
    told = {"preprocess_from": str(made.preprocess), "device": "cpu"}
    broken = tmp_path / "broken.pt"
    broken.write_bytes(made.checkpoint.read_bytes()[:5000])
    listed = tmp_path / "list.pt"
    torch.save([1, 2, 3], listed)
    for path in (broken, listed):
        with pytest.raises(InputError, match="no weights that can be read"):
            load(EncoderSpec("test-vit", str(path), **told))
    with pytest.raises(InputError, match=r"do not fit test-vit: .*Missing key"):
        load(EncoderSpec("test-vit", str(tower("test-resnet").checkpoint), **told))
    with pytest.raises(MachineError, match="no such checkpoint file"):
        load(EncoderSpec("test-vit", str(tmp_path / "absent.pt"), **told))


def test_a_saved_folder_is_an_encoder(tower: Callable[[str], Any], tmp_path: Path) -> None:
    import open_clip

    made = tower("test-vit")
    folder = tmp_path / "my-tower"
    with pytest.raises(MachineError, match="no saved open_clip model"):
        load(EncoderSpec(f"local-dir:{folder}"))
    folder.mkdir()
    shutil.copy(made.checkpoint, folder / "open_clip_pytorch_model.bin")
    config = {
        "model_cfg": open_clip.get_model_config("test-vit"),
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    encoder = load(EncoderSpec(f"local-dir:{folder}", device="cpu"))
    assert encoder.identity["name"] == "local-dir:my-tower"
    assert encoder.preprocess["std"] == [0.25] * 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tower: Callable[[str], Any]) -> None:
    made = tower("test-vit")
    spec = EncoderSpec("test-vit", str(made.checkpoint), str(made.preprocess), device="cuda")
    with pytest.raises(MachineError, match="no GPU"):
        load(spec)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda0", "mps", "CPU", ""])
def test_a_device_that_is_none_is_not_blamed_on_the_weights(device: str) -> None:
    with pytest.raises(UsageError, match="there is no device") as caught:
        load(EncoderSpec("nano", device=device))
    assert caught.value.where == "--device"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_with_too_high_a_number() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(UsageError, match=f"torch sees {count}"):
        load(EncoderSpec("nano", device=f"cuda:{count}"))


def test_a_full_gpu_is_not_blamed_on_the_weights() -> None:
    class Large(torch.nn.Module):
        def to(self, *_: object, **__: object) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    with pytest.raises(MachineError, match="large cannot be put on cuda: CUDA out of memory"):
        device.move(Large(), "cuda", "large")


def test_nano_and_tags_bring_their_own_preprocessing() -> None:
    for model, tag in (("nano", None), ("ViT-B-32-quickgelu", "openai")):
        with pytest.raises(UsageError, match="bring their own") as caught:
            load(EncoderSpec(model, tag, preprocess_from="openai"))
        assert "None" not in str(caught.value)


@pytest.mark.parametrize(("status", "online"), [(200, True), (404, True), (503, False)])
def test_any_answer_but_a_failing_server_is_a_hub(
    status: int, online: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub.Probe().online() is online
        server.shutdown()
        thread.join()


def test_loading_leaves_the_root_logger_alone(tower: Callable[[str], Any]) -> None:
    import logging

    before = list(logging.getLogger().handlers)
    made = tower("test-vit")
    load(EncoderSpec("test-vit", str(made.checkpoint), str(made.preprocess), device="cpu"))
    assert logging.getLogger().handlers == before
    assert logging.getLogger().manager.disable == 0


@pytest.mark.parametrize(
    ("asked", "saved"), [("test-vit", "test-vit-wide"), ("test-vit-wide", "test-vit")]
)
def test_weights_of_another_width_name_the_widths_and_the_model(
    asked: str, saved: str, tower: Callable[[str], Any]
) -> None:
    tower(asked)
    made = tower(saved)
    spec = EncoderSpec(asked, str(made.checkpoint), str(made.preprocess), device="cpu")
    with pytest.raises(InputError, match=f"the weights do not fit {asked}") as caught:
        load(spec)
    widths = {"test-vit": (64, 32), "test-vit-wide": (128, 64)}
    for which, (theirs, own) in zip(
        ("image", "text"), zip(widths[saved], widths[asked], strict=True), strict=True
    ):
        assert f"{which} width {theirs}, the model has {own}" in caught.value.where
    assert saved in re.split(r"[ :]", caught.value.fix)


def test_sizes_of_weights_are_those_of_their_config(tower: Callable[[str], Any]) -> None:
    import open_clip

    from cacheclip.encoders import shapes

    for name in ("test-vit", "test-vit-wide", "test-resnet"):
        tensors = {key: x.shape for key, x in tower(name).model.state_dict().items()}
        found = shapes.facts_of_weights(tensors)
        assert found == shapes.facts_of_config(open_clip.get_model_config(name))
        other = {"ViT-B-32": open_clip.get_model_config("ViT-B-32")}
        assert shapes.fitting(found, other) == []


def test_a_mistake_of_ours_is_not_blamed_on_the_weights(
    tower: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("ours")

    made = tower("test-vit")
    monkeypatch.setattr(open_clip_, "move", broken)
    with pytest.raises(AssertionError, match="ours"):
        load(EncoderSpec("test-vit", str(made.checkpoint), str(made.preprocess), device="cpu"))
