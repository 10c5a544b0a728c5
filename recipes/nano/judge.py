"""How good an encoder is on held-out training pairs: what the settings are chosen by.

No picture of `clipart` takes part.
"""

from __future__ import annotations

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from recipes.nano.captions import Captions
from recipes.nano.model import TEMPLATES, text_features, unit
from recipes.nano.records import Record

MIN_PICTURES = 4


def ensemble(net: nn.Module, tokenize: SimpleTokenizer, names: list[str]) -> Tensor:
    """Gives [n, d]: for each name the unit mean over the templates."""
    parts = []
    for template in TEMPLATES:
        tokens = tokenize([template.format(name) for name in names])
        parts.append(torch.cat([unit(text_features(net, part)) for part in tokens.split(512)]))
    return unit(torch.stack(parts).mean(dim=0))


def precision_of_words(scores: np.ndarray, holds: np.ndarray) -> float:
    """Gives the mean over words of the average precision of finding their pictures.

    Args:
        scores: [words, pictures].
        holds: [words, pictures] bool.
    """
    order = np.argsort(-scores, axis=1)
    hits = np.take_along_axis(holds, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean())


def neighbour_accuracy(images: np.ndarray, records: list[Record]) -> float:
    """Gives how often the nearest picture of another concept belongs to the same group."""
    concepts = np.array([record.concept for record in records])
    groups = np.array([record.group for record in records])
    scores = np.where(concepts[:, None] == concepts, -np.inf, images @ images.T)
    names, counts = np.unique(groups, return_counts=True)
    counted = np.isin(groups, names[counts >= MIN_PICTURES]) & (groups != "")
    return float((groups[scores.argmax(axis=1)] == groups)[counted].mean())


@torch.no_grad()
def judge(
    net: nn.Module, tokenize: SimpleTokenizer, images: Tensor, records: list[Record], told: Captions
) -> dict[str, float]:
    """Gives the three measures and their mean, as fractions.

    Args:
        net: The text tower.
        tokenize: Its tokenizer.
        images: [n, d] unit features of held-out pictures.
        records: Their records.
        told: Their captions.
    """
    net.eval()
    titles = [told.table[kinds[0][0]] for kinds in told.texts]
    names = list(dict.fromkeys(titles))
    found = (images @ ensemble(net, tokenize, names).T).argmax(dim=1).tolist()
    title = float(np.mean([names[k] == own for k, own in zip(found, titles, strict=True)]))
    holds = told.holds.toarray().T
    times = holds.sum(axis=1)
    often = np.flatnonzero((times >= MIN_PICTURES) & (times <= len(records) // 4))
    words = ensemble(net, tokenize, [told.table[k] for k in often])
    precision = precision_of_words((words @ images.T).numpy(), holds[often])
    neighbour = neighbour_accuracy(images.numpy(), records)
    values = {"title": title, "words": precision, "neighbour": neighbour}
    values["mean"] = sum(values.values()) / 3
    return {name: round(value, 4) for name, value in values.items()}
