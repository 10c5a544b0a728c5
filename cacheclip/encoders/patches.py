"""The features of a picture's parts: what an image tower knows of each place before it pools.

Of a vision transformer they are its patch tokens through the last norm and the projection, which
no CLIP was trained for; of CLIP's ResNets the attention pooling asked at every place; of a network
that averages, the places that are averaged: the mean of their features is the picture's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Places:
    """The places of a tower.

    Attributes:
        kind: what their features are, for people who look at a store.
        of: pixels [B, 3, H, W] -> features [B, P, E] of P places before the projection.
    """

    kind: str
    of: Callable[[Tensor], Tensor]


def places_of(tower: Any) -> Places | None:
    """The places of a tower whose features its last projection takes.

    Args:
        tower: an open_clip image tower whose last projection was taken.

    Returns:
        None where the tower is of another form.
    """
    pool = getattr(tower, "attnpool", None)
    if pool is not None:
        return Places(
            "attention pooling asked at every place",
            lambda pixels: _asked_everywhere(pool, _before_pool(tower, pixels)),
        )
    if hasattr(tower, "ln_post") and getattr(tower, "attn_pool", None) is None:
        return Places(
            "patch tokens through the last norm and the projection, which were not trained for it",
            lambda pixels: _tokens(tower, pixels),
        )
    trunk: Any = getattr(tower, "trunk", None)
    last = getattr(trunk, "global_pool", None)
    if isinstance(last, nn.Module) and getattr(last, "pool_type", None) == "avg":
        return Places("places before they are averaged", lambda pixels: _averaged(trunk, pixels))
    return None


def _tokens(tower: Any, pixels: Tensor) -> Tensor:
    found = tower.forward_intermediates(
        pixels,
        indices=1,
        normalize_intermediates=True,
        intermediates_only=True,
        output_fmt="NLC",
    )
    (tokens,) = found["image_intermediates"]  # without the class token
    return tokens  # type: ignore[no-any-return]


def _averaged(trunk: Any, pixels: Tensor) -> Tensor:
    grid: Tensor = trunk.forward_features(pixels)  # [B, E, h, w]
    return grid.flatten(2).mT


def _before_pool(tower: Any, pixels: Tensor) -> Tensor:
    grid: Tensor = tower.stem(pixels)
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        grid = layer(grid)
    return grid  # [B, E, h, w]


def _asked_everywhere(pool: Any, grid: Tensor) -> Tensor:
    """CLIP's attention pooling, whose query is the mean there, with each place as a query."""
    places = grid.flatten(2).permute(2, 0, 1)  # [P, B, E]
    x = torch.cat([places.mean(0, keepdim=True), places])
    x = x + pool.positional_embedding[:, None].to(x.dtype)
    biases = [pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]
    found, _ = functional.multi_head_attention_forward(
        x,
        x,
        x,
        embed_dim_to_check=x.shape[-1],
        num_heads=pool.num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat(biases),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        training=False,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return found[1:].transpose(0, 1)
