"""What the shapes of a checkpoint's tensors say of its model, and which known models have them.

Nothing here loads torch or open_clip: shapes and configs are handed in.
"""

import re
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

Shapes = Mapping[str, Sequence[int]]
Facts = dict[str, int | str]
STRIDE = 32  # pixels of a modified ResNet's last cell


def facts_of_weights(tensors: Shapes) -> Facts:
    """The sizes that a checkpoint of open_clip's own towers shows, by name; those it has.

    Args:
        tensors: name -> shape.
    """
    shapes = {name.removeprefix("module."): tuple(shape) for name, shape in tensors.items()}
    text = "text." if "text.token_embedding.weight" in shapes else ""
    facts: Facts = {}
    if "visual.class_embedding" in shapes and "visual.conv1.weight" in shapes:
        width, _, _, patch = shapes["visual.conv1.weight"]
        facts |= {"image tower": "ViT", "image width": width, "patch": patch}
        facts["image layers"] = _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\.")
        if "visual.positional_embedding" in shapes:
            facts["image size"] = isqrt(shapes["visual.positional_embedding"][0] - 1) * patch
    elif "visual.attnpool.positional_embedding" in shapes:
        cells, width = shapes["visual.attnpool.positional_embedding"]
        facts |= {"image tower": "ResNet", "image width": width // STRIDE}
        layers = [_count(shapes, rf"visual\.layer{k}\.(\d+)\.") for k in (1, 2, 3, 4)]
        facts |= {"image layers": str(layers), "image size": isqrt(cells - 1) * STRIDE}
    elif any(name.startswith("visual.trunk.") for name in shapes):
        facts["image tower"] = "timm"
    if f"{text}token_embedding.weight" in shapes:
        facts["vocabulary"], facts["text width"] = shapes[f"{text}token_embedding.weight"]
        facts["text layers"] = _count(shapes, rf"{re.escape(text)}transformer\.resblocks\.(\d+)\.")
    if len(shape := shapes.get(f"{text}text_projection", ())) == 2:
        facts["common width"] = shape[1]
    if any(name.startswith("text_decoder.") for name in shapes):
        facts["decoder"] = "yes"
    return facts


def facts_of_config(config: Mapping[str, Any]) -> Facts:
    """The same sizes, as a model's config states them."""
    image, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    facts: Facts = {"common width": config.get("embed_dim", 0)}
    if "timm_model_name" in image:
        facts["image tower"] = "timm"
    elif isinstance(layers := image.get("layers", 12), list):
        facts |= {"image tower": "ResNet", "image width": image.get("width", 64)}
        facts["image layers"] = str(layers)
    else:
        facts |= {"image tower": "ViT", "image width": image.get("width", 768)}
        facts |= {"image layers": layers, "patch": image.get("patch_size", 16)}
    if facts["image tower"] != "timm" and isinstance(size := image.get("image_size", 224), int):
        facts["image size"] = size
    if "hf_model_name" not in text:
        facts |= {"vocabulary": text.get("vocab_size", 49408), "text width": text.get("width", 512)}
        facts["text layers"] = text.get("layers", 12)
    if "multimodal_cfg" in config:
        facts["decoder"] = "yes"
    return facts


def fitting(weights: Facts, configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The models of open_clip's own towers whose config states just what the weights show."""
    if weights.get("image tower", "timm") == "timm":
        return []  # the shapes of other libraries' towers stand in no config
    return [name for name, config in configs.items() if facts_of_config(config) == weights]


def differences(weights: Facts, model: Facts) -> str:
    """Where weights and model differ, in words: "image width 384, the model has 768; ..."."""
    return "; ".join(
        f"{name} {weights[name]}, the model has {model[name]}"
        for name in weights
        if name in model and weights[name] != model[name]
    )


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers the names of that pattern have."""
    found = (re.match(pattern, name) for name in shapes)
    return len({match[1] for match in found if match})
