"""The class text that methods read: prompts of templates, sentences that describe each class, both.

`norm-mean` is an ensemble of the templates, `cupl:norm-mean` of the sentences, and `all:norm-mean`
of every prompt that the set has, where each weighs the same.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from cacheclip.errors import StoreError
from cacheclip.methods.base import TEXT_NORM, Method, Reads
from cacheclip.store.source import About
from cacheclip.task import class_text

TOKENS = "tokens"  # the class names for a text tower: a part of the encoder, and no features
TEMPLATES, CUPL, ALL = "", "cupl", "all"


class Texts:
    """The text features of one feature set, read once, when a method first asks for them."""

    def __init__(self, features: About, device: torch.device) -> None:
        self._features = features
        self._device = device

    @cached_property
    def norm(self) -> float:
        """The mean norm of the classes' raw text; the published one where there is no text."""
        if self._features.text is None:
            return TEXT_NORM
        raw = class_text(self._templates, ["raw-mean"])["raw-mean"]
        return float(f"{raw.norm(dim=-1).mean():.4g}")

    def lacking(self, reads: Reads) -> StoreError | None:
        """The error of sentences that are read and are not there; or None."""
        lost = CUPL in _families(reads.text) and self._features.sentences is None
        return self._features.no_sentences if lost else None

    def notices(self, chosen: Sequence[type[Method]]) -> list[str]:
        """A line on the methods that read all prompts, where there are those of templates alone."""
        reading = [m.name for m in chosen if ALL in _families(m().reads.text)]
        if not reading or self._features.sentences is not None:
            return []
        return [
            f"{', '.join(dict.fromkeys(reading))}: of the templates alone, for there are no "
            f"sentences beside them; {self._features.no_sentences.fix}"
        ]

    def of(self, name: str) -> Tensor:
        """An ensemble by the name that methods read it under, [C, D] or [C, T, D].

        Raises:
            StoreError: the set has no such text; the fix makes it.
        """
        family, _, ensemble = name.rpartition(":")
        return class_text(self._prompts(family), [ensemble])[ensemble]

    def stores(self, reads: Reads) -> dict[str, str]:
        """What the features that are read go by in a row: `text`, `sentences` -> digest."""
        families = _families(name for name in reads.text if name != TOKENS)
        text, sentences = self._features.text, self._features.sentences
        read = {}
        if families - {CUPL} and text is not None:
            read["text"] = text.digest
        if families - {TEMPLATES} and sentences is not None:
            read["sentences"] = sentences.digest
        return read

    def template(self, reads: Reads) -> str:
        """The names of the prompts that are read, where text is."""
        families = _families(reads.text)
        text, sentences = self._features.text, self._features.sentences
        names = [text.template] if text is not None and families - {CUPL} else []
        names += [sentences.template] if sentences is not None and families - {TEMPLATES} else []
        return " + ".join(names)

    def _prompts(self, family: str) -> Tensor:
        """The raw prompts [C, T, D] of a family; rows of zeros where a class has fewer than T."""
        if family == CUPL:
            return self._sentences
        if family == ALL and self._features.sentences is not None:
            return torch.cat([self._templates, self._sentences], 1)
        return self._templates

    @cached_property
    def _templates(self) -> Tensor:
        text = self._features.text
        if text is None:
            raise StoreError(
                "this feature set has no text features",
                where=f"data set {self._features.dataset}",
                fix=self._features.text_command,
            )
        return torch.from_numpy(text.load()).to(self._device)

    @cached_property
    def _sentences(self) -> Tensor:
        sentences = self._features.sentences
        if sentences is None:
            raise self._features.no_sentences
        return torch.from_numpy(sentences.load()).to(self._device)


def _families(names: Iterable[str]) -> set[str]:
    """The families that ensembles are of."""
    return {name.rpartition(":")[0] for name in names}
