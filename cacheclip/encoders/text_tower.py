"""The text transformer of a CLIP as plain arrays, and class names as it reads them.

What methods that learn prompts compute with. Weights have the names and shapes that open_clip gives
them: `token_embedding.weight` [vocabulary, d], `positional_embedding` [context, d], the blocks
`transformer.resblocks.0.` and on, `ln_final.`, and `text_projection` [d, D].

Beside them, int64: `heads` [1]; `quick-gelu` [1], 1 where the activation is x sigmoid(1.702 x) and
0 where it is GELU; the tokens `start`, `end`, `stop` (a full stop) [1], and `context`, those of "a
photo of a". A block is x + attention(ln_1 x), then x + mlp(ln_2 x); attention looks back only,
norms have an epsilon of 1e-5, and a text's feature is ln_final at the place of `end`, projected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

CONTEXT = "a photo of a"
STOP = "."
EPSILON = 1e-5
BLOCKS = "transformer.resblocks."
OTHERS = (
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.weight",
    "ln_final.bias",
    "text_projection",
)
OF_A_BLOCK = {
    "ln_1.weight",
    "ln_1.bias",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.weight",
    "attn.out_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
}

Arrays = Mapping[str, NDArray[Any]]


def text_tower(model: Any, tokenizer: Any) -> Arrays | None:
    """The text tower of an open_clip model; None where it is no transformer as described above."""
    tower = getattr(model, "text", model)
    blocks: Any = getattr(getattr(tower, "transformer", None), "resblocks", ())
    if not len(blocks) or not _is_plain(model, tower, blocks) or not _is_bpe(tokenizer):
        return None
    named = dict(tower.named_parameters())
    weights = {x: named[x] for x in named if x in OTHERS or x.startswith(BLOCKS)}
    numbers = {
        "heads": [blocks[0].attn.num_heads],
        "quick-gelu": [int(_activation(blocks[0]) == "QuickGELU")],
        "start": [tokenizer.sot_token_id],
        "end": [tokenizer.eot_token_id],
        "stop": tokenizer.encode(STOP),
        "context": tokenizer.encode(CONTEXT),
    }
    return {
        **{name: tensor.detach().float().cpu().numpy() for name, tensor in weights.items()},
        **{name: np.array(value, np.int64) for name, value in numbers.items()},
    }


def class_tokens(tokenizer: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """The tokens of each name and the full stop after it, from start to end: [C, L], 0 beyond it.

    Together, for a name that ends in a full stop itself is read otherwise with another one.
    """
    tokens: NDArray[np.int64] = tokenizer([name + STOP for name in names]).numpy()
    ends = (tokens == tokenizer.eot_token_id).argmax(1)  # [C]
    return tokens[:, : ends.max() + 1]


def _is_plain(model: Any, tower: Any, blocks: Sequence[Any]) -> bool:
    """Whether a tower computes what is said above, and nothing beside."""
    pool = getattr(tower, "pool_type", getattr(model, "text_pool_type", None))
    return (
        pool in ("argmax", "eos")
        and getattr(tower, "cls_emb", None) is None
        and getattr(tower, "attn_mask", None) is not None
        and isinstance(getattr(tower, "text_projection", None), nn.Parameter)
        and _eps(tower.ln_final) == EPSILON
        and all(_is_plain_block(block) for block in blocks)
    )


def _is_plain_block(block: Any) -> bool:
    names = {name for name, _ in block.named_parameters()}
    return (
        type(block).__name__ == "ResidualAttentionBlock"
        and names == OF_A_BLOCK
        and _activation(block) in ("GELU", "QuickGELU")
        and _eps(block.ln_1) == _eps(block.ln_2) == EPSILON
    )


def _is_bpe(tokenizer: Any) -> bool:
    """Whether its tokenizer is CLIP's own: a list of tokens between a start and an end."""
    own = ("sot_token_id", "eot_token_id", "encode")
    return all(hasattr(tokenizer, name) for name in own)


def _activation(block: Any) -> str:
    return type(block.mlp.gelu).__name__


def _eps(norm: Any) -> float | None:
    return getattr(norm, "eps", None)
