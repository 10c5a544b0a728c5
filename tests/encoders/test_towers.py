import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cacheclip.encoders import open_clip_
from cacheclip.encoders.base import Encoder, EncoderSpec, load
from cacheclip.errors import UsageError


def spec(tower: Any, **changes: Any) -> EncoderSpec:
    told = {
        "model": tower.name,
        "pretrained": str(tower.checkpoint),
        "preprocess_from": str(tower.preprocess),
        "device": "cpu",
    }
    return EncoderSpec(**{**told, **changes})


def pixels(encoder: Encoder, rows: int = 5) -> torch.Tensor:
    generator = np.random.default_rng(0)
    size = (90, 70, 3)
    pictures = [Image.fromarray(generator.integers(0, 256, size, np.uint8)) for _ in range(rows)]
    return torch.stack([encoder.transform(picture) for picture in pictures])


def as_modules(tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Give modules that hold these tensors under their names and compute nothing."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, torch.nn.Module())
            module = module.get_submodule(parent)
        module.register_buffer(last, tensor)
    return root


@pytest.mark.parametrize("name", ["test-vit", "test-resnet", "test-timm"])
def test_features_before_the_projection_times_the_projection_are_what_open_clip_gives(
    tower: Callable[[str], Any], name: str
) -> None:
    made = tower(name)
    encoder = load(spec(made))
    batch = pixels(encoder)
    got = encoder.encode_images(batch)
    visual = made.model.visual
    with torch.inference_mode():
        want = made.model.encode_image(batch).numpy()
    if name == "test-vit":
        matrix, bias = visual.proj, torch.zeros(())
    else:
        layer = visual.attnpool.c_proj if name == "test-resnet" else visual.head.proj
        matrix, bias = layer.weight.T, layer.bias if layer.bias is not None else torch.zeros(())
    projected = got["pre-projection"] @ matrix.detach().numpy() + bias.detach().numpy()
    assert encoder.layers == ("image", "pre-projection")
    assert got["image"].dtype == got["pre-projection"].dtype == np.float32
    assert got["pre-projection"].shape[1] == matrix.shape[0] != got["image"].shape[1]
    np.testing.assert_allclose(got["image"], want, rtol=0, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(projected, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_a_tower_that_ends_in_no_linear_map_gives_the_image_layer_alone(
    tower: Callable[[str], Any],
) -> None:
    made = tower("test-timm-mlp")
    encoder = load(spec(made))
    batch = pixels(encoder)
    with torch.inference_mode():
        want = made.model.encode_image(batch).numpy()
    assert encoder.layers == ("image",)
    np.testing.assert_allclose(encoder.encode_images(batch)["image"], want, atol=1e-6)


def test_texts_are_raw_and_those_that_are_too_long_are_counted(
    tower: Callable[[str], Any],
) -> None:
    import open_clip

    made = tower("test-vit")
    encoder = load(spec(made))
    fits, cut = " ".join(["cat"] * 10), " ".join(["cat"] * 11)  # 12 tokens with start and end
    features, truncated = encoder.encode_texts(["a cat", fits, cut])
    tokens = open_clip.get_tokenizer("test-vit")(["a cat", fits, cut])
    with torch.inference_mode():
        want = made.model.encode_text(tokens).numpy()
    assert truncated == 1
    np.testing.assert_allclose(features, want, rtol=0, atol=1e-6)


def test_pixels_are_those_of_open_clips_own_transform_bit_for_bit(
    tower: Callable[[str], Any],
) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    made = tower("test-vit")
    own = image_transform_v2(PreprocessCfg(32, mean=(0.5,) * 3, std=(0.25,) * 3), is_train=False)
    size = (61, 90, 3)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, size, np.uint8))
    assert torch.equal(load(spec(made)).transform(picture), own(picture))


def test_what_goes_into_keys(tower: Callable[[str], Any]) -> None:
    made = tower("test-vit")
    encoder = load(spec(made))
    identity = dict(encoder.identity)
    assert len(str(identity.pop("weights_sha256"))) == 64
    assert identity == {
        "library": "open_clip",
        "name": "test-vit",
        "pretrained": "test-vit.pt",
        "quickgelu": True,
        "embed_dim": 24,
        "logit_scale": 14.2857,
        "logit_bias": None,
    }
    assert encoder.compute == {"dtype": "float32"}
    assert encoder.preprocess["size"] == [32, 32]
    assert encoder.preprocess["mean"] == [0.5] * 3
    assert encoder.preprocess["interpolation"] == "bicubic"
    assert encoder.weights_file == made.checkpoint


def test_the_weights_digest_sees_tensors_not_files(
    tower: Callable[[str], Any], tmp_path: Any
) -> None:
    made = tower("test-vit")
    tensors = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    same = tmp_path / "same.safetensors"
    save_file(tensors, same)
    tensors["visual.proj"][0, 0] += 1e-3
    other = tmp_path / "other.safetensors"
    save_file(tensors, other)
    digests = [
        load(spec(made, pretrained=str(path))).identity["weights_sha256"]
        for path in (made.checkpoint, same, other)
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", ["test-vit", "test-resnet", "test-timm"])
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_half_precision_still_gives_fp32_rows_near_the_fp32_ones(
    tower: Callable[[str], Any], name: str, precision: str, dtype: str
) -> None:
    made = tower(name)
    exact, half = load(spec(made)), load(spec(made, precision=precision))
    batch = pixels(exact)
    want, got = exact.encode_images(batch), half.encode_images(batch)
    assert half.compute == {"dtype": dtype}
    assert half.identity == exact.identity
    for layer in ("image", "pre-projection"):
        assert got[layer].dtype == np.float32
        assert 0 < np.abs(got[layer] - want[layer]).max() < 0.1 * np.abs(want[layer]).max()
    texts = ["a cat", "a dog"]
    np.testing.assert_allclose(half.encode_texts(texts)[0], exact.encode_texts(texts)[0], atol=0.2)


def test_an_openai_file_is_known_by_its_digest(
    tower: Callable[[str], Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TorchScript archive that brings its tag, its preprocessing and its activation."""
    import open_clip.pretrained

    made = tower("test-vit")
    plain = load(spec(made))
    batch = pixels(plain)
    path = tmp_path / "ViT-T-16.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this way of saving deprecated
        torch.jit.save(torch.jit.script(as_modules(made.model.state_dict())), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    published: dict[str, Any] = {
        "url": f"https://openaipublic.azureedge.net/clip/models/{digest}/ViT-T-16.pt",
        "quick_gelu": True,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    table = open_clip.pretrained._PRETRAINED
    monkeypatch.setitem(table, "test-vit", {"openai": published})
    found = load(spec(made, pretrained=str(path), preprocess_from=None))
    assert found.identity == {**plain.identity, "pretrained": "openai"}
    np.testing.assert_array_equal(
        found.encode_images(batch)["image"], plain.encode_images(batch)["image"]
    )

    open_clip_.register("test-vit-quickgelu", open_clip.get_model_config("test-vit"))
    published["quick_gelu"] = False
    with pytest.raises(UsageError, match="trained with GELU") as caught:
        load(spec(made, model="test-vit-quickgelu", pretrained=str(path), preprocess_from=None))
    assert caught.value.fix == "use --model test-vit"
