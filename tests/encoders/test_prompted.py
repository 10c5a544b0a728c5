"""Visual prompts are tokens that every block of the tower sees, and none is the tower's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.encoders.base import NANO, EncoderSpec, load
from tests.encoders.test_parts import spec
from tests.encoders.test_patches import pixels

WIDTH = 64  # of the tower


def test_without_tokens_the_features_are_the_tower_s(tower: Callable[[str], Any]) -> None:
    encoder = load(spec(tower("test-vit")))
    found = encoder.encode_prompted(pixels(encoder), torch.zeros(0, WIDTH))
    assert found is not None
    want = encoder.encode_images(pixels(encoder))["image"]
    np.testing.assert_allclose(found.detach(), want, rtol=1e-5, atol=1e-6)


def test_tokens_go_through_the_blocks_beside_those_of_the_picture(
    tower: Callable[[str], Any],
) -> None:
    made = tower("test-vit")
    encoder, visual = load(spec(made)), made.model.visual
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(3, WIDTH, generator=generator).requires_grad_()
    found = encoder.encode_prompted(pixels(encoder), tokens)
    assert found is not None
    with torch.no_grad():
        x = visual._embeds(pixels(encoder))  # [B, 1 + P, E]
        x = torch.cat([x, tokens.expand(len(x), -1, -1)], 1)  # attention knows no order
        want = visual.ln_post(visual.transformer(x)[:, 0]) @ visual.proj
    torch.testing.assert_close(found.detach(), want, rtol=1e-4, atol=1e-5)
    (slope,) = torch.autograd.grad(found.square().sum(), tokens)
    assert (slope.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", [NANO, "test-resnet", "test-timm"])
def test_a_tower_that_is_no_vision_transformer_takes_none(
    tower: Callable[[str], Any], name: str
) -> None:
    encoder = load(EncoderSpec(NANO, device="cpu") if name == NANO else spec(tower(name)))
    assert encoder.encode_prompted(pixels(encoder), torch.zeros(1, WIDTH)) is None
