"""What an encoder is to the rest of the house, and how one is found by name.

Nothing here loads torch; `load` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cacheclip.registry import Registry

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

NANO = "nano"
ENCODERS = Registry("cacheclip.encoders", "library of encoders", listed=(NANO, "open-clip"))
LOCAL_DIR = "local-dir:"  # open_clip's own way to name a folder with a model's config and weights
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder in the words of the command line.

    Attributes:
        model: an open_clip model name, `hf-hub:ORG/NAME`, `local-dir:PATH`, or `nano`.
        pretrained: a tag that open_clip knows for this model, or a checkpoint file.
        preprocess_from: where a checkpoint file's preprocessing is described: a tag of the same
            model, a JSON file, or the description itself. Only for files, which carry none.
        device: `cpu`, `cuda`, `cuda:1`; None takes the GPU where there is one.
        precision: `fp32`, `fp16` or `bf16`; None takes fp32 on the CPU, on a GPU fp16, and bf16
            where fp16 overflows.
    """

    model: str
    pretrained: str | None = None
    preprocess_from: str | Mapping[str, object] | None = None
    device: str | None = None
    precision: str | None = None


class Encoder(Protocol):
    """A loaded encoder. The first three attributes go into the keys of stores as they stand."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """`library name pretrained weights_sha256 quickgelu embed_dim logit_scale logit_bias`."""

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """All that decides pixels: size, mean, std, interpolation, resize mode and so on."""

    @property
    def compute(self) -> Mapping[str, Any]:
        """`dtype`: what the towers computed in."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that `encode_images` gives: `image`, and `pre-projection` where it can."""

    @property
    def parts(self) -> Mapping[str, NDArray[np.float32]]:
        """The maps that its towers end in, as far as it has them.

        `projection` [E, D] and `projection-bias` [D] make layer `image` of layer `pre-projection`;
        `text-projection` [d, D] is the last map of the text tower.
        """

    @property
    def weights_file(self) -> Path:
        """The file that the weights came from."""

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda`, `cuda:1`."""

    def transform(self, picture: "Image.Image") -> "Tensor":
        """Turn an RGB picture into what the image tower takes, [3, H, W] float32."""

    def encode_images(self, pixels: "Tensor") -> dict[str, NDArray[np.float32]]:
        """Give each layer's raw features, [B, D] float32, of pixels [B, 3, H, W]."""

    def encode_texts(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Give raw features, [n, D] float32, and how many texts were cut to the context length."""

    def encode_patches(self, pixels: "Tensor") -> NDArray[np.float32] | None:
        """Give raw features of the P parts of each picture, [B, P, D] float32; None if it cannot.

        They are those of the tower's places through its last projection: see `patches`.
        """

    @property
    def patches_are(self) -> str | None:
        """What `encode_patches` gives, in words; None where it gives nothing."""

    def encode_prompted(self, pixels: "Tensor", tokens: "Tensor") -> "Tensor | None":
        """Give raw features [B, D] under tokens [M, E] beside the picture's; None if it cannot.

        E is the width before the last projection. Gradients go back to the tokens: see `prompted`.
        """

    def text_tower(self) -> Mapping[str, NDArray[Any]] | None:
        """Give the text transformer as arrays; None where it is not CLIP's: see `text_tower`."""

    def class_tokens(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Give the tokens of class names, [C, n], where there is a `text_tower`."""


def load(spec: EncoderSpec, *, fetch: bool = True) -> Encoder:
    """Load the encoder that `spec` names.

    Args:
        spec: its name, weights and so on.
        fetch: whether a model of the hub may be fetched that is not in its local cache. What the
            catalogue of open_clip names may be fetched anyway.

    Raises:
        UsageError: there is no such model, tag or device, or they do not go together.
        InputError: a checkpoint or a description of preprocessing is faulty or of another model.
        MachineError: weights, a package or the GPU are missing on this machine.
    """
    file = ENCODERS.file(NANO if spec.model == NANO else "open-clip", where="--model")
    encoder: Encoder = file.load(spec, fetch=fetch)
    return encoder
