"""The texts on which the text tower is distilled, with sampling weights and token ids.

Writes `texts.json` ([[text, weight, is_noun], ...]) and the vocabulary into the work folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import timm
from open_clip.tokenizer import SimpleTokenizer

from recipes.nano.model import write_vocabulary
from recipes.nano.records import Record, load_records
from recipes.nano.wordnet import Nouns

SEED = 1
N_PHRASES, N_GLOSSES, N_LISTS = 7500, 6000, 3000
COLOURS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    *("gray", "golden", "silver"),
)
ADJECTIVES = (
    *("big", "small", "old", "new", "round", "square", "long", "short", "happy", "sad", "angry"),
    *("open", "closed", "wooden", "metal", "plastic", "bright", "dark", "cute", "funny", "simple"),
    *("broken", "empty", "full", "hot", "cold", "young", "wild"),
)

Weighted = dict[str, tuple[float, bool]]


def add(texts: Weighted, text: str, weight: float, *, is_noun: bool = True) -> None:
    """Adds a text, or raises the weight of one that is there."""
    text = text.strip().lower()
    if text and weight > texts.get(text, (0.0, True))[0]:
        texts[text] = (weight, is_noun)


def add_nouns(texts: Weighted, nouns: Nouns) -> None:
    """Adds common nouns: short in tokens of CLIP's full vocabulary, which follows frequency."""
    full = SimpleTokenizer()
    for noun, offset in nouns.first_sense.items():
        parts = noun.split()
        if not all(part.isalpha() for part in parts) or len(parts) > 2:
            continue
        sizes = [len(full.encode(part)) for part in parts]
        physical = nouns.is_physical(offset)
        if sizes == [1]:
            add(texts, noun, 4 if physical else 2)
        elif sizes == [1, 1] and physical:
            add(texts, noun, 1)
        elif sizes == [2] and physical:
            add(texts, noun, 0.4)


def add_imagenet(texts: Weighted, nouns: Nouns) -> None:
    """Adds the names of the 1000 ImageNet classes, their other words and the wider meanings."""
    info = Path(timm.__file__).parent / "data/_info/imagenet_synsets.txt"
    for wnid in info.read_text().split():
        chain = nouns.chain(int(wnid[1:]))
        first, *others = nouns.synsets[chain[0]].lemmas
        add(texts, first, 8)
        for other in others:
            add(texts, other, 3)
        for above in chain[1:]:
            add(texts, nouns.synsets[above].lemmas[0], 8)


def add_captions(texts: Weighted, nouns: Nouns, records: list[Record]) -> None:
    """Adds the captions and tags of the pictures, and what is wider than the captions."""
    for record in records:
        for text in (record.title, *record.tags):
            add(texts, text, 6 if text in nouns.first_sense else 4)
        for text in nouns.wider(record.title):
            add(texts, text, 6)


def add_phrases(texts: Weighted, nouns: Nouns, rng: np.random.Generator) -> None:
    """Adds made-up phrases, glosses and, for the later positions, long lists and long glosses."""
    common = sorted(text for text, (weight, _) in texts.items() if weight >= 4)
    for _ in range(N_PHRASES):
        one, two = rng.choice(common, 2)
        kind = rng.integers(3)
        phrase = (
            f"{rng.choice(ADJECTIVES)} {one}",
            f"{rng.choice(COLOURS)} {one}",
            f"{one} on a {two}",
        )[kind]
        add(texts, phrase, 0.7)
    for _ in range(N_LISTS):
        add(texts, ", ".join(rng.choice(common, rng.integers(3, 16))), 0.5, is_noun=False)
    for noun in rng.choice(common, N_GLOSSES):
        offset = nouns.sense(noun)
        if offset is not None:
            chain = nouns.chain(offset)[: rng.integers(1, 4)]
            glosses = [nouns.synsets[above].gloss for above in chain]
            add(texts, f"{noun}: " + ". ".join(glosses), 0.7, is_noun=False)


def main() -> None:
    """Collects and saves the texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    nouns = Nouns(arguments.sources / "deb/usr/share/wordnet")
    texts: Weighted = {}
    add_nouns(texts, nouns)
    add_imagenet(texts, nouns)
    add_captions(texts, nouns, load_records(arguments.work / "train.json"))
    add_phrases(texts, nouns, np.random.default_rng(SEED))
    rows = [[text, weight, is_noun] for text, (weight, is_noun) in sorted(texts.items())]
    (arguments.work / "texts.json").write_text(json.dumps(rows, ensure_ascii=False))
    write_vocabulary(arguments.work / "bpe_4096.txt.gz")
    print(f"{len(rows)} texts")


if __name__ == "__main__":
    main()
