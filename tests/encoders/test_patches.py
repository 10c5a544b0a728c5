"""The features of a picture's parts are those of the places that its tower pools."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.encoders.base import NANO, EncoderSpec, load
from tests.encoders.test_parts import spec


def pixels(encoder: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, *encoder.preprocess["size"], generator=generator)


@pytest.mark.parametrize("name", [NANO, "test-timm"])
def test_where_places_are_averaged_the_mean_of_the_parts_is_the_picture(
    tower: Callable[[str], Any], name: str
) -> None:
    encoder = load(EncoderSpec(NANO, device="cpu") if name == NANO else spec(tower(name)))
    parts, want = encoder.encode_patches(pixels(encoder)), encoder.encode_images(pixels(encoder))
    assert parts is not None
    assert parts.shape[1] > 1
    np.testing.assert_allclose(parts.mean(1), want["image"], rtol=1e-3, atol=1e-4)


def test_of_a_vision_transformer_they_are_its_tokens(tower: Callable[[str], Any]) -> None:
    made = tower("test-vit")
    encoder = load(spec(made))
    parts = encoder.encode_patches(pixels(encoder))
    assert parts is not None
    visual = made.model.visual
    with torch.no_grad():
        x = visual.transformer(visual._embeds(pixels(encoder)))
        want = visual.ln_post(x) @ visual.proj  # [B, 1 + P, D]
    np.testing.assert_allclose(parts, want[:, 1:].numpy(), rtol=1e-4, atol=1e-5)
    image = encoder.encode_images(pixels(encoder))["image"]
    np.testing.assert_allclose(image, want[:, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_of_a_resnet_the_pooling_is_asked_at_every_place(tower: Callable[[str], Any]) -> None:
    made = tower("test-resnet")
    encoder = load(spec(made))
    parts = encoder.encode_patches(pixels(encoder))
    assert parts is not None
    visual, pool = made.model.visual, made.model.visual.attnpool
    with torch.no_grad():
        x = visual.stem(pixels(encoder))
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        x = x.flatten(2).mT  # [B, P, E]
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + pool.positional_embedding
        q, k, v = (
            linear(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for linear in (pool.q_proj, pool.k_proj, pool.v_proj)
        )
        seen = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v  # [B, heads, 1 + P, .]
        want = pool.c_proj(seen.transpose(1, 2).flatten(2))
    np.testing.assert_allclose(parts, want[:, 1:].numpy(), rtol=1e-3, atol=1e-4)
    image = encoder.encode_images(pixels(encoder))["image"]
    np.testing.assert_allclose(image, want[:, 0].numpy(), rtol=1e-3, atol=1e-4)


def test_a_tower_without_a_last_linear_map_gives_none(tower: Callable[[str], Any]) -> None:
    encoder = load(spec(tower("test-timm-mlp")))
    assert encoder.encode_patches(pixels(encoder)) is None
