"""Visual prompts: tokens that stand beside those of a picture from the first block on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Prompted = Callable[[Tensor, Tensor], Tensor]


def prompted_by(tower: Any) -> Prompted | None:
    """What gives, of pixels [B, 3, H, W] and tokens [M, E], features [B, E] before the projection.

    The tokens stand between the class token and those of the patches, after the norm before the
    first block and without a position; they are seen by all others and read by no pooling. Without
    any the features are the tower's own. Gradients go back to the tokens.

    Args:
        tower: an open_clip image tower whose last projection was taken.

    Returns:
        None where the tower is no vision transformer of open_clip's that ends in a plain pooling.
    """
    plain = hasattr(tower, "class_embedding") and hasattr(tower, "_embeds")
    if not plain or getattr(tower, "attn_pool", None) is not None:
        return None

    def features(pixels: Tensor, tokens: Tensor) -> Tensor:
        x = tower._embeds(pixels)  # [B, 1 + P, E]
        own = tokens.to(x.dtype).expand(len(x), -1, -1)
        x = tower.transformer(torch.cat([x[:, :1], own, x[:, 1:]], 1))
        x = torch.cat([x[:, :1], x[:, 1 + tokens.shape[-2] :]], 1)
        pooled: Tensor = tower._pool(x)[0]
        return pooled

    return features
