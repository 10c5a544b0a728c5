"""What goes through the encoder for a picture: the picture as it is, views of it, or its parts."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.encoders.base import Encoder
from cacheclip.errors import UsageError
from cacheclip.extraction.plan import Plan
from cacheclip.extraction.views import recipe, view
from cacheclip.store.features import ANSWERED, VIEWED
from cacheclip.store.schema import PATCHES, SPLITS

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Encoded = dict[str, NDArray[np.float32]]


class Pass:
    """The pictures as they are.

    Attributes:
        name: what it gives, for a sentence.
        layers: those whose stores it fills.
        splits: those whose pictures take it.
        views: of the stores' keys.
        shape: of the pixels of a picture, [..., 3, H, W].
        vectors: of each layer that are kept of a picture.
        at_once: pictures that the encoder sees for one of them.
        info: what people may want to know of them beside all that; no part of a key.
        device: where it computes.
    """

    name = "the features"
    splits: tuple[str, ...] = SPLITS
    views: Mapping[str, Any] | None = None
    vectors: int = 1
    at_once: int = 1
    info: Mapping[str, str | None] = MappingProxyType({})

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.layers = encoder.layers
        self.shape: tuple[int, ...] = (3, *encoder.preprocess["size"])
        self.device = encoder.device

    @property
    def is_plain(self) -> bool:
        """Whether these are the pictures as they are."""
        return self.layers == self._encoder.layers and self.views is None

    def pixels(self, picture: "Image.Image", sample: str) -> "Tensor":
        """What an RGB picture of that id is to the encoder, [*shape] float32."""
        return self._encoder.transform(picture)

    def encode(self, pixels: "Tensor") -> Encoded:
        """Each layer's raw features, [B, vectors D] float32, of pixels [B, *shape]."""
        return self._encoder.encode_images(pixels)


class ViewsPass(Pass):
    """W views of each picture of some splits, side by side: view 0 is the picture as it is."""

    def __init__(self, encoder: Encoder, views: int, splits: tuple[str, ...]) -> None:
        super().__init__(encoder)
        self.name = f"{views} views"
        self.splits = splits
        self.views = recipe(views)
        self.vectors = self.at_once = views
        self._size = (encoder.preprocess["size"][1], encoder.preprocess["size"][0])
        self.shape = (views, *self.shape)

    def pixels(self, picture: "Image.Image", sample: str) -> "Tensor":
        """W views of an RGB picture of that id, [W, 3, H, W] float32; its id decides which."""
        import torch

        own = [view(picture, self._size, sample, k) for k in range(self.vectors)]
        return torch.stack([self._encoder.transform(one) for one in own])

    def encode(self, pixels: "Tensor") -> Encoded:
        """Each layer's raw features, [B, W D] float32, of pixels [B, W, 3, H, W]."""
        encoded = self._encoder.encode_images(pixels.flatten(0, 1))
        return {layer: rows.reshape(len(pixels), -1) for layer, rows in encoded.items()}


class PatchesPass(Pass):
    """The parts of each picture."""

    name = PATCHES

    def __init__(self, encoder: Encoder) -> None:
        """Try it on a black picture, which tells how many parts there are.

        Raises:
            UsageError: this encoder gives none.
        """
        import torch

        super().__init__(encoder)
        self.layers = (PATCHES,)
        tried = encoder.encode_patches(torch.zeros(1, *self.shape))
        if tried is None:
            raise UsageError(
                "the image tower of this encoder gives no features of the parts of a picture",
                where=f"--model {encoder.identity['name']}",
                fix=f"leave {PATCHES} out of --layers, or use another --model",
            )
        self.vectors = tried.shape[1]
        self.info = {PATCHES: encoder.patches_are}

    def encode(self, pixels: "Tensor") -> Encoded:
        """Layer `patches`, [B, P D] float32, of pixels [B, 3, H, W]."""
        encoded = self._encoder.encode_patches(pixels)
        if encoded is None:
            raise ValueError("an encoder that gave features of parts gives none")
        return {PATCHES: encoded.reshape(len(encoded), -1)}


def passes(plan: Plan, encoder: Encoder) -> list[Pass]:
    """The passes that a plan asks for, the pictures as they are first.

    Raises:
        UsageError: this encoder cannot give what is asked for.
    """
    found = [Pass(encoder)]
    if plan.request.views is not None:
        found.append(ViewsPass(encoder, plan.request.views, (VIEWED,)))
    if plan.request.query_views is not None:
        found.append(ViewsPass(encoder, plan.request.query_views, ANSWERED))
    if PATCHES in plan.request.layers:
        found.append(PatchesPass(encoder))
    return found
