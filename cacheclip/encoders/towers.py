"""Both towers of a loaded open_clip model at work."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cacheclip.encoders import text_tower
from cacheclip.encoders.base import PRECISIONS
from cacheclip.encoders.patches import places_of
from cacheclip.encoders.projection import Projection, take_last_projection
from cacheclip.encoders.prompted import prompted_by
from cacheclip.errors import InputError

TEXT_BATCH = 256


class OpenClipEncoder:
    """An open_clip model that gives raw fp32 features; the contract is `base.Encoder`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        transform: Any,
        tokenizer: Any,
        identity: Mapping[str, Any],
        preprocess: Mapping[str, Any],
        precision: str,
        device: str,
        weights_file: Path,
    ) -> None:
        self.identity = identity
        self.preprocess = preprocess
        self.compute = {"dtype": PRECISIONS[precision]}
        self.device = device
        self.weights_file = weights_file
        self._model: Any = model.eval()
        # The last two steps make a tensor and normalise it: see `transform`.
        self._geometry: Sequence[Callable[[Image.Image], Image.Image]] = transform.transforms[:-2]
        self._mean = np.array(preprocess["mean"], np.float32)[:, None, None]
        self._std = np.array(preprocess["std"], np.float32)[:, None, None]
        self._tokenizer = tokenizer
        self._projection = take_last_projection(self._model.visual)
        self._places = places_of(self._model.visual) if self._projection else None
        self._prompted = prompted_by(self._model.visual) if self._projection else None
        self.layers = ("image", "pre-projection") if self._projection else ("image",)

    @property
    def parts(self) -> Mapping[str, NDArray[np.float32]]:
        """The maps that its towers end in, as far as it has them: see `base.Encoder`."""
        found = {}
        if (image := self._projection) is not None:
            bias = torch.zeros(image.matrix.shape[1]) if image.bias is None else image.bias
            found = {"projection": _rows(image.matrix), "projection-bias": _rows(bias)}
        text = getattr(self._model, "text", self._model)
        last = Projection.of(getattr(text, "text_projection", None))
        if last is not None and last.bias is None:
            found["text-projection"] = _rows(last.matrix)
        return found

    def transform(self, picture: Image.Image) -> Tensor:
        """Turn an RGB picture into what the image tower takes, [3, H, W] float32.

        Bit for bit open_clip's own transform, but its arithmetic is NumPy's here: torch would give
        every decoding thread a team of threads, which costs more than the arithmetic.
        """
        for step in self._geometry:
            picture = step(picture)
        pixels = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels /= np.float32(255)
        pixels -= self._mean
        pixels /= self._std
        return torch.from_numpy(pixels)

    def encode_images(self, pixels: Tensor) -> dict[str, NDArray[np.float32]]:
        """Give each layer's raw features, [B, D] float32, of pixels [B, 3, H, W]."""
        dtype = getattr(torch, self.compute["dtype"])
        with torch.inference_mode():
            features = self._model.encode_image(pixels.to(self.device, dtype), normalize=False)
            if self._projection is None:
                return {"image": _rows(features)}
            projected = self._projection(features)  # [B, E] -> [B, D]
            return {"image": _rows(projected), "pre-projection": _rows(features)}

    def encode_patches(self, pixels: Tensor) -> NDArray[np.float32] | None:
        """Give raw features of the P parts of each picture, [B, P, D]; None if it cannot."""
        if self._projection is None or self._places is None:
            return None
        dtype = getattr(torch, self.compute["dtype"])
        with torch.inference_mode():
            places = self._places.of(pixels.to(self.device, dtype))  # [B, P, E]
            return _rows(self._projection(places))

    @property
    def patches_are(self) -> str | None:
        """What `encode_patches` gives, in words; None where it gives nothing."""
        return None if self._projection is None or self._places is None else self._places.kind

    def encode_prompted(self, pixels: Tensor, tokens: Tensor) -> Tensor | None:
        """Give raw features [B, D] under tokens [M, E] beside the picture's; None if it cannot."""
        if self._projection is None or self._prompted is None:
            return None
        dtype = getattr(torch, self.compute["dtype"])
        features = self._prompted(pixels.to(self.device, dtype), tokens.to(self.device, dtype))
        return self._projection(features).float().cpu()

    def encode_texts(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Give raw features, [n, D] float32, and how many texts were cut to the context length."""
        context = self._tokenizer.context_length
        padding = getattr(getattr(self._tokenizer, "tokenizer", None), "pad_token_id", None) or 0
        parts, cut = [], 0
        for first in range(0, len(texts), TEXT_BATCH):
            batch = list(texts[first : first + TEXT_BATCH])
            # Given room for one more token, just the texts that are too long fill that place.
            longer = self._tokenizer(batch, context_length=context + 1)  # [n, context + 1]
            cut += int((longer[:, context] != padding).sum())
            tokens = self._tokenizer(batch)
            self._refuse_unknown(int(tokens.max()))
            with torch.inference_mode():
                tokens = tokens.to(self.device)
                parts.append(_rows(self._model.encode_text(tokens, normalize=False)))
        return np.concatenate(parts), cut

    def text_tower(self) -> Mapping[str, NDArray[Any]] | None:
        """Give the text transformer as arrays; None where it is not CLIP's: see `text_tower`."""
        return text_tower.text_tower(self._model, self._tokenizer)

    def class_tokens(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Give the tokens of class names, [C, n], where there is a `text_tower`."""
        return text_tower.class_tokens(self._tokenizer, names)

    def _refuse_unknown(self, token: int) -> None:
        vocabulary = _vocabulary(self._model)
        if vocabulary is not None and token >= vocabulary:
            raise InputError(
                f"the text tower knows {vocabulary} tokens, and its tokenizer gives token {token}",
                where=f"model {self.identity['name']}, {self.weights_file}",
                fix="name the model's own tokenizer in its open_clip_config.json: text_cfg, "
                "hf_tokenizer_name",
            )


def _vocabulary(model: nn.Module) -> int | None:
    """How many tokens a model of open_clip's own text towers knows; None of another one."""
    found = getattr(model, "vocab_size", getattr(getattr(model, "text", None), "vocab_size", None))
    return found if isinstance(found, int) else None


def _rows(features: Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = features.detach().float().cpu().numpy()
    return rows
