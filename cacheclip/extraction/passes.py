"""What goes through the encoder for a picture: it as it is, views, its parts, or boxes of it."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.datasets.boxes import Box, Size, box_of, file_of
from cacheclip.datasets.images import ImageError
from cacheclip.encoders.base import Encoder
from cacheclip.errors import UsageError
from cacheclip.extraction.boxes import CROPS
from cacheclip.extraction.crops import SCALES, coverage, crop, stretched
from cacheclip.extraction.plan import Plan
from cacheclip.extraction.views import recipe, view
from cacheclip.store.features import VIEWED
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
        device: where it computes.
        many_of_one: whether neighbouring rows are of one picture.
    """

    name = "the features"
    many_of_one = False
    splits: tuple[str, ...] = SPLITS
    views: Mapping[str, Any] | None = None
    vectors: int = 1
    at_once: int = 1

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
    """W views of each training picture, side by side: view 0 is the picture as it is."""

    splits = (VIEWED,)

    def __init__(self, encoder: Encoder, views: int) -> None:
        super().__init__(encoder)
        self.name = f"{views} views"
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
        super().__init__(encoder)
        self.layers = (PATCHES,)
        self.vectors = _places(encoder, self.shape, f"leave {PATCHES} out of --layers")

    def encode(self, pixels: "Tensor") -> Encoded:
        """Layer `patches`, [B, P D] float32, of pixels [B, 3, H, W]."""
        encoded = self._encoder.encode_patches(pixels)
        if encoded is None:
            raise ValueError("an encoder that gave features of parts gives none")
        return {PATCHES: encoded.reshape(len(encoded), -1)}


class RegionsPass(Pass):
    """A box of each picture: layer `image` alone."""

    many_of_one = True

    def __init__(self, encoder: Encoder, sizes: Mapping[str, Size]) -> None:
        """Prepare only.

        Args:
            encoder: what the pictures go through.
            sizes: width and height of each picture that the boxes were drawn on, by its name.
        """
        super().__init__(encoder)
        self.layers = ("image",)
        self._sizes = sizes
        height, width = encoder.preprocess["size"]
        self._size = (width, height)

    @property
    def is_plain(self) -> bool:
        """Whether these are the samples as they are, which here are boxes."""
        return True

    def box(self, picture: "Image.Image", sample: str) -> Box:
        """The box of that id, in a picture that is as large as the one it was drawn on.

        Raises:
            ImageError: the picture is of another size.
        """
        told = self._sizes.get(file_of(sample), picture.size)
        if any(b not in (a, math.inf) for a, b in zip(picture.size, told, strict=True)):
            (wide, high), turned = picture.size, tuple(told[::-1]) == picture.size
            advice = "; perhaps --orientation as-stored" if turned else ""
            text = f"{wide} x {high} pixels, the file of boxes says {told[0]} x {told[1]}{advice}"
            raise ImageError("other", text)
        return box_of(sample)


class CropsPass(RegionsPass):
    """A box cut out, and the same with its surroundings, each stretched to the encoder's size.

    Its feature is the mean of the two unit vectors, as ViLD (2104.13921) has it.
    """

    name = "crops"

    def __init__(self, encoder: Encoder, sizes: Mapping[str, Size]) -> None:
        super().__init__(encoder, sizes)
        self.at_once = len(SCALES)
        self.shape = (len(SCALES), *self.shape)

    def pixels(self, picture: "Image.Image", sample: str) -> "Tensor":
        """The box at each of `SCALES`, [2, 3, H, W] float32."""
        import torch

        box = self.box(picture, sample)
        cuts = [crop(picture, box, scale) for scale in SCALES]
        return torch.stack([self._encoder.transform(stretched(cut, self._size)) for cut in cuts])

    def encode(self, pixels: "Tensor") -> Encoded:
        """The mean of the unit vectors, [B, D] float32, of pixels [B, 2, 3, H, W]."""
        rows = self._encoder.encode_images(pixels.flatten(0, 1))["image"]  # [B 2, D]
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = rows / np.where(length > 0, length, 1)
        return {"image": unit.reshape(len(pixels), len(SCALES), -1).mean(1)}


class PooledPass(RegionsPass):
    """The features of a picture's places, averaged by how much of each the box covers.

    The picture is stretched to the encoder's size, so that no box lies outside, and is encoded
    once for all its boxes of a batch.
    """

    name = "pooled patches"

    def __init__(self, encoder: Encoder, sizes: Mapping[str, Size]) -> None:
        super().__init__(encoder, sizes)
        places = _places(encoder, self.shape, "use --pool crops")
        height, width = self.shape[1:]
        rows = round((places * height / width) ** 0.5)
        self._grid = (rows, places // rows)
        if rows * self._grid[1] != places:
            raise UsageError(
                f"the {places} places of this encoder are no grid of the picture",
                where=f"--model {encoder.identity['name']}",
                fix="use --pool crops, or another --model",
            )
        self.shape = (4, height, width)

    def pixels(self, picture: "Image.Image", sample: str) -> "Tensor":
        """The picture and what the box covers of it, [4, H, W] float32."""
        import torch

        whole = self._encoder.transform(stretched(picture, self._size))
        covered = coverage(picture.size, self.box(picture, sample), self._size)
        return torch.cat([whole, torch.from_numpy(covered)[None]])

    def encode(self, pixels: "Tensor") -> Encoded:
        """The averages, [B, D] float32, of pixels [B, 4, H, W]."""
        import torch
        from torch.nn import functional

        pictures, covered = pixels[:, :3], pixels[:, 3:]
        new = torch.ones(len(pixels), dtype=torch.bool)
        new[1:] = (pictures[1:] != pictures[:-1]).flatten(1).any(1)
        places = self._encoder.encode_patches(pictures[new])  # [pictures, P, D]
        if places is None:
            raise ValueError("an encoder that gave features of parts gives none")
        share = functional.adaptive_avg_pool2d(covered, self._grid).flatten(1)  # [B, P]
        share /= share.sum(1, keepdim=True).clamp_min(1e-12)  # of a row without a picture: zeros
        of = (new.cumsum(0) - 1).numpy()
        return {"image": np.einsum("bp,bpd->bd", share.numpy(), places[of])}


def _places(encoder: Encoder, shape: tuple[int, ...], fix: str) -> int:
    """How many places of a picture have features, which a black one of this shape tells.

    Raises:
        UsageError: this encoder gives none.
    """
    import torch

    tried = encoder.encode_patches(torch.zeros(1, *shape))
    if tried is None:
        raise UsageError(
            "the image tower of this encoder gives no features of the parts of a picture",
            where=f"--model {encoder.identity['name']}",
            fix=f"{fix}, or use another --model",
        )
    return int(tried.shape[1])


def passes(plan: Plan, encoder: Encoder) -> list[Pass]:
    """The passes that a plan asks for, the pictures as they are first.

    Raises:
        UsageError: this encoder cannot give what is asked for.
    """
    if plan.boxes is not None:
        pooled = CropsPass if plan.pool == CROPS else PooledPass
        return [pooled(encoder, plan.boxes.sizes)]
    found = [Pass(encoder)]
    if plan.request.views is not None:
        found.append(ViewsPass(encoder, plan.request.views))
    if PATCHES in plan.request.layers:
        found.append(PatchesPass(encoder))
    return found
