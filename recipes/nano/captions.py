"""Which texts describe which picture, and the draw of one of them for a training step."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.sparse import csr_matrix

from recipes.nano.model import TEMPLATES
from recipes.nano.records import Record
from recipes.nano.wordnet import Nouns

# How often a step takes the title, a tag, or a wider meaning of the title.
SHARES = (0.5, 0.3, 0.2)
HELD_OUT_PART = 16


def held_out(records: list[Record]) -> np.ndarray:
    """Gives [n] bool: the pictures of one concept in 16, on which settings are chosen."""
    digests = [hashlib.sha256(record.concept.encode()).digest() for record in records]
    return np.array([digest[0] % HELD_OUT_PART == 0 for digest in digests])


class Captions:
    """The texts of a list of pictures.

    Attributes:
        table: Every text once.
        texts: For each picture the indices of its title, tags and wider meanings.
        holds: [n, len(table)] sparse; 1 where a text describes a picture.
    """

    def __init__(self, records: list[Record], nouns: Nouns) -> None:
        """Collects the texts of `records`."""
        numbers: dict[str, int] = {}

        def number(text: str) -> int:
            return numbers.setdefault(text.lower(), len(numbers))

        self.texts = [
            (
                [number(record.title)],
                [number(tag) for tag in record.tags],
                [number(name) for name in nouns.wider(record.title)],
            )
            for record in records
        ]
        self.table = list(numbers)
        rows = [i for i, kinds in enumerate(self.texts) for kind in kinds for _ in kind]
        columns = [text for kinds in self.texts for kind in kinds for text in kind]
        shape = (len(records), len(self.table))
        self.holds = csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=shape)

    def choose(self, pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Gives the number in the table of one text for each picture."""
        drawn = np.empty(len(pictures), int)
        for k, picture in enumerate(pictures):
            kinds = self.texts[picture]
            kind = kinds[rng.choice(3, p=SHARES)] or kinds[0]
            drawn[k] = kind[rng.integers(len(kind))]
        return drawn

    def draw(self, pictures: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Gives one text in a template for each picture."""
        drawn = self.choose(pictures, rng)
        frames = rng.integers(len(TEMPLATES), size=len(drawn))
        pairs = zip(frames, drawn, strict=True)
        return [TEMPLATES[frame].format(self.table[text]) for frame, text in pairs]
