"""The nouns of WordNet 3.0: senses, hypernyms and glosses, read from its database files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

HEAD_END = re.compile(r" (?:of|with|without|in|on|at|from|and|for|to) ")
# Meanings so wide that they tell nothing about a picture.
EMPTY = {
    "artifact",
    "living thing",
    "matter",
    "object",
    "psychological feature",
    "thing",
    "whole",
}
MIN_DEPTH = 2


@dataclass(frozen=True)
class Synset:
    """One meaning.

    Attributes:
        lemmas: Its words, blanks for underscores.
        hypernyms: Offsets of the wider meanings, the main one first.
        is_instance: Whether it names one particular thing, as a city or person.
        gloss: Its definition without examples.
    """

    lemmas: list[str]
    hypernyms: list[int]
    is_instance: bool
    gloss: str


def read_synset(line: str) -> tuple[int, Synset]:
    """Gives offset and meaning of a line of `data.noun`."""
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    n_words = int(fields[3], 16)
    lemmas = [word.replace("_", " ") for word in fields[4 : 4 + 2 * n_words : 2]]
    pointers = fields[5 + 2 * n_words :]
    kinds = [(pointers[i], int(pointers[i + 1])) for i in range(0, len(pointers) - 3, 4)]
    hypernyms = [offset for kind, offset in kinds if kind in ("@", "@i")]
    is_instance = any(kind == "@i" for kind, _ in kinds)
    definition = gloss.split('; "')[0].strip()
    return int(fields[0]), Synset(lemmas, hypernyms, is_instance, definition)


class Nouns:
    """WordNet's nouns.

    Args:
        folder: Folder that holds `data.noun`, `index.noun` and `noun.exc`.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the files."""
        lines = (folder / "data.noun").read_text(encoding="utf-8").splitlines()
        self.synsets = dict(read_synset(line) for line in lines if not line.startswith(" "))
        # The first sense that names no particular thing: a crane is no writer.
        self.first_sense: dict[str, int] = {}
        for line in (folder / "index.noun").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                senses = [int(field) for field in fields[-int(fields[2]) :]]
                common = [offset for offset in senses if not self.synsets[offset].is_instance]
                if common:
                    self.first_sense[fields[0].replace("_", " ")] = common[0]
        exceptions = (folder / "noun.exc").read_text(encoding="utf-8").splitlines()
        self.singular = {line.split()[0]: line.split()[1] for line in exceptions}

    @cached_property
    def physical(self) -> int:
        """Offset of `physical entity`."""
        return self.first_sense["physical entity"]

    def is_physical(self, offset: int) -> bool:
        """Says whether a meaning is a kind of thing that can be touched."""
        return self.physical in self.chain(offset)

    def chain(self, offset: int) -> list[int]:
        """Gives the offsets from a meaning up to `entity`, itself first, by main hypernyms."""
        found = [offset]
        while self.synsets[found[-1]].hypernyms:
            found.append(self.synsets[found[-1]].hypernyms[0])
        return found

    def wider(self, text: str) -> list[str]:
        """Gives the words of the meanings above a phrase's main noun, nearest first.

        Args:
            text: A caption.
        """
        offset = self.sense(text)
        if offset is None:
            return []
        chain = self.chain(offset)
        names = [self.synsets[above].lemmas[0] for above in chain[1:-MIN_DEPTH]]
        return [name for name in names if name not in EMPTY]

    def sense(self, text: str) -> int | None:
        """Gives the first sense of a phrase's main noun: of "cat" in "black cats on a mat"."""
        parts = HEAD_END.split(text.lower())[0].split()
        for start in range(len(parts)):
            phrase = " ".join(parts[start:])
            for form in (phrase, self.singular.get(phrase), *stems(phrase)):
                if form in self.first_sense:
                    return self.first_sense[form]
        return None


def stems(phrase: str) -> list[str]:
    """Gives the singular forms that a regular plural may have."""
    endings = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""), ("men", "man"))
    return [phrase[: -len(old)] + new for old, new in endings if phrase.endswith(old)]
