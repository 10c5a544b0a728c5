"""InCPL itself: each picture goes through the image tower with visual prompts of its own.

A reference, small and slow: for each picture the tower reads it and all of the context, forward and
back, twice a round.
"""

from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.datasets.images import ImageError, using_rgb
from cacheclip.datasets.listing import find
from cacheclip.encoders.base import Encoder
from cacheclip.errors import InputError, UsageError
from cacheclip.heads.prompts import class_features
from cacheclip.heads.test_time import Own, entropy
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.inference.answer import Answer, label_of
from cacheclip.inference.pictures import reading_of
from cacheclip.task import Generators, unit

METHOD = "incpl-like"  # whose bundles hold what else is needed
SEED = 1  # of the net from words to visual prompts, which starts anew for each picture


class InContext:
    """A bundle of `METHOD`, its encoder, and labelled pictures as context (2403.06126).

    The visual prompts are M tokens, what a linear net makes of the M words of the text prompt. A
    round is a step of the net and then one of the words, down the entropy of the picture's own
    prediction plus `supervised` times the mean cross-entropy of the context, both by AdamW at the
    bundle's `lr`; net and words start anew for each picture. With `rounds=0` no token is there and
    it is zero-shot by its words. The paper's net is called a token net, and its form could not be
    verified; what stands in `METHOD` of the context holds here.

    Raises:
        UsageError: the bundle is of another method.
        InputError: there is no labelled picture in the folder, one cannot be read, or the encoder
            is no vision transformer of open_clip's.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, folder: Path) -> None:
        if bundle.method != METHOD:
            raise UsageError(
                f"a context is for bundles of {METHOD}, and this is one of {bundle.method}",
                where="--context",
                fix=f"leave --context out, or: cacheclip fit --method {METHOD}",
            )
        self._classifier = Classifier(bundle)
        self._params = self._classifier.params
        self._rounds = int(self._classifier.method.settings["rounds"])
        self._encoder = encoder
        self._reading = reading_of(bundle)
        self._tower = TextTransformer.of(
            {name: torch.from_numpy(x) for name, x in (encoder.text_tower() or {}).items()},
            torch.float32,
        )
        self._labels, pixels = self._context(folder)
        self._pixels = torch.stack(pixels)  # [N, 3, H, W]
        width, d = len(encoder.parts.get("projection", ())), self._params["words"].shape[-1]
        random = Generators([SEED], "init", torch.device("cpu"), torch.float32)
        self._net = random.uniform(1 / sqrt(d), (d, width))  # [1, d, E]
        with torch.no_grad():
            tried = encoder.encode_prompted(self._pixels[:1], self._net.new_zeros(1, width))
        if tried is None:
            raise InputError(
                "visual prompts need a vision transformer of open_clip's, and this is none",
                where=f"encoder {bundle.encoder['name']}",
                fix="leave --context out: the bundle answers with cached features' offsets",
            )

    def predict(self, images: Sequence[Path], top_k: int, *, raw: bool = False) -> Iterator[Answer]:
        """Answers in the order of the images; a picture that cannot be read gets an error."""
        for path in images:
            try:
                pixels = using_rgb(path, self._encoder.transform, self._reading)
            except ImageError as error:
                yield Answer(str(path), (), str(error))
                continue
            (top,) = self._classifier.named(self.logits(pixels), top_k, raw=raw)
            yield Answer(str(path), top)

    def logits(self, pixels: Tensor) -> Tensor:
        """[1, C] of one picture [3, H, W]."""
        lr = self._params["lr"]
        net, words = Own(self._net, lr), Own(self._params["words"], lr)
        seen = torch.cat([pixels[None], self._pixels])  # [1 + N, 3, H, W]
        for _ in range(self._rounds):
            net.step(lambda own: self._loss(seen, own, words.value))
            words.step(lambda own: self._loss(seen, net.value, own))
        with torch.no_grad():
            return self._scores(pixels[None], net.value, words.value)

    def _loss(self, seen: Tensor, net: Tensor, words: Tensor) -> Tensor:
        """[1], of the picture and then the context [1 + N, 3, H, W]."""
        logits = self._scores(seen, net, words)
        missed = cross_entropy(logits[1:], self._labels)
        return entropy(logits[None, :1]) + self._params["supervised"] * missed

    def _scores(self, pixels: Tensor, net: Tensor, words: Tensor) -> Tensor:
        """Logits [B, C] of pixels [B, 3, H, W]."""
        tokens = (words @ net)[0] if self._rounds else net.new_zeros(0, net.shape[-1])  # [M, E]
        features = self._encoder.encode_prompted(pixels, tokens)
        if features is None:
            raise ValueError("an encoder that took visual prompts takes none")
        text = unit(class_features(self._tower, self._params["tokens"][0], words))[0]  # [C, D]
        return self._params["logit_scale"] * (unit(features) @ text.mT)

    def _context(self, folder: Path) -> tuple[Tensor, list[Tensor]]:
        """Labels [N] and pixels of the pictures that lie in folders named like classes."""
        names = self._classifier.bundle.classnames
        found = [(own.path, label_of(own.folders, names)) for own in find([folder])[0]]
        labelled = [(path, names.index(label)) for path, label in found if label is not None]
        if not labelled:
            raise InputError(
                "no picture here lies in a folder that is named like a class",
                where=f"--context {folder}",
                fix=f"put labelled pictures into FOLDER/CLASS: {', '.join(names[:3])}, ...",
            )
        try:
            pixels = [
                using_rgb(path, self._encoder.transform, self._reading) for path, _ in labelled
            ]
        except ImageError as error:
            raise InputError(
                f"a picture of the context cannot be read: {error}",
                where=f"--context {folder}",
                fix="take it out",
            ) from None
        return torch.tensor([label for _, label in labelled]), pixels
