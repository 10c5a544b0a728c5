"""What is kept of an encoder computes what the encoder computes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip  # noqa: TID253
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from cacheclip.encoders import text_tower
from cacheclip.encoders.base import NANO, EncoderSpec, load

Tower = Mapping[str, NDArray[Any]]


def spec(tower: Any) -> EncoderSpec:
    return EncoderSpec(tower.name, str(tower.checkpoint), str(tower.preprocess), device="cpu")


@pytest.mark.parametrize("name", ["test-vit", "test-resnet", "test-timm"])
def test_the_projection_makes_one_layer_of_the_other(
    tower: Callable[[str], Any], name: str
) -> None:
    encoder = load(spec(tower(name)))
    height, width = encoder.preprocess["size"]
    features = encoder.encode_images(torch.rand(3, 3, height, width))
    parts = encoder.parts
    projected = features["pre-projection"] @ parts["projection"] + parts["projection-bias"]
    np.testing.assert_allclose(projected, features["image"], atol=1e-4, rtol=1e-4)


def test_a_tower_that_ends_in_no_linear_map_has_no_projection(
    tower: Callable[[str], Any],
) -> None:
    assert list(load(spec(tower("test-timm-mlp"))).parts) == ["text-projection"]


@pytest.mark.parametrize("name", [NANO, "test-vit", "test-timm"])
def test_prompts_put_together_of_tokens_are_read_as_the_text_tower_reads_texts(
    tower: Callable[[str], Any], name: str
) -> None:
    encoder = load(EncoderSpec(NANO, device="cpu") if name == NANO else spec(tower(name)))
    names = ["cat", "Golden Retriever", "U.S.", "a.b"]
    want, cut = encoder.encode_texts([f"a photo of a {name}." for name in names])
    assert cut == 0
    kept = encoder.text_tower()
    assert kept is not None
    tokens = encoder.class_tokens(names)
    assert (tokens[:, 0] == kept["start"]).all()
    ends = (tokens == kept["end"]).argmax(1)
    prompts = [
        [*kept["start"], *kept["context"], *row[1 : end + 1]]
        for row, end in zip(tokens, ends, strict=True)
    ]
    got = [read(kept, prompt) for prompt in prompts]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert tokens[0, ends[0] - 1] == kept["stop"]


def read(tower: Tower, tokens: Sequence[int]) -> NDArray[np.float64]:
    """The feature of one text [D], step by step in float64."""
    w = {name: torch.from_numpy(array) for name, array in tower.items()}
    w = {name: x.double() if x.is_floating_point() else x for name, x in w.items()}
    ids = torch.tensor(tokens)
    x = w["token_embedding.weight"][ids] + w["positional_embedding"][: len(ids)]  # [L, d]
    ahead = torch.full((len(ids), len(ids)), -torch.inf, dtype=x.dtype).triu(1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift = w[f"{name}.weight"], w[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], scale, shift, text_tower.EPSILON)

    for n in range(sum(name.endswith("ln_1.bias") for name in w)):
        own = f"{text_tower.BLOCKS}{n}."
        inner = norm(x, f"{own}ln_1") @ w[f"{own}attn.in_proj_weight"].T
        inner = inner + w[f"{own}attn.in_proj_bias"]
        q, k, v = inner.view(len(ids), 3, int(w["heads"]), -1).permute(1, 2, 0, 3)  # [heads, L, .]
        attention = (q @ k.mT * q.shape[-1] ** -0.5 + ahead).softmax(-1) @ v
        joined = attention.permute(1, 0, 2).flatten(1)
        x = x + joined @ w[f"{own}attn.out_proj.weight"].T + w[f"{own}attn.out_proj.bias"]
        hidden = norm(x, f"{own}ln_2") @ w[f"{own}mlp.c_fc.weight"].T + w[f"{own}mlp.c_fc.bias"]
        quick = bool(w["quick-gelu"])
        hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else functional.gelu(hidden)
        x = x + hidden @ w[f"{own}mlp.c_proj.weight"].T + w[f"{own}mlp.c_proj.bias"]
    last = norm(x, "ln_final")[-1]
    return (last @ w["text_projection"]).numpy()


def test_a_tower_of_another_form_is_none(tower: Callable[[str], Any], tmp_path: Path) -> None:
    """One that looks both ways, one that scales its blocks, one whose tokens are not its own."""
    tokenizer = open_clip.get_tokenizer("test-vit")
    assert text_tower.text_tower(tower("test-vit").model, tokenizer) is not None
    assert text_tower.text_tower(tower("test-vit").model, object()) is None
    for changes in ({"no_causal_mask": True}, {"ls_init_value": 0.1}, {"pool_type": "last"}):
        other = open_clip.transformer.TextTransformer(
            width=32, heads=2, layers=1, vocab_size=50, output_dim=8, **changes
        )
        assert text_tower.text_tower(holding(other), tokenizer) is None


def holding(text: nn.Module) -> nn.Module:
    model = nn.Module()
    model.text = text
    return model
