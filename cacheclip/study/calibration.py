"""One temperature a classifier, fitted on labelled pictures that did not choose its settings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cacheclip.draws import Draw
from cacheclip.engine import stack as engine
from cacheclip.heads.temperature import true_confidence
from cacheclip.methods.base import Trained
from cacheclip.metrics import hits, wilson
from cacheclip.study.data import SetData
from cacheclip.study.race import Race, Winner

LEAST, FEW, MOST = 16, 60, 1000  # pictures; beyond the last a single number learns nothing new
FOLDS = 4

UNUSED = "validation pictures that the choice did not read"
LEFT_OUT = "support pictures, by fits that did not see them"
HALVES = "validation pictures, each half where the other half chooses the same"


Answers = tuple[Tensor, Tensor]  # logits [1, n, C] and labels [n]


@dataclass(frozen=True)
class Calibration:
    """What divides the logits before the softmax, and what it was fitted on."""

    temperature: float
    n: int
    on: str
    within: float  # half of the 95 % interval of the share of them that is right


def calibrate(
    winner: Winner, race: Race, draw: Draw | None, data: SetData, *, anew: bool
) -> Calibration | None:
    """The winner's temperature; None where there are too few pictures for it.

    Validation pictures that the choice did not read come first. Where it read them all, they are
    cut in halves: those of one half count if the other half alone chooses the same settings. Where
    that leaves few, the settings are fitted anew on parts of the support, and the rest counts too.

    Args:
        winner: of the race.
        race: the candidates that it won against.
        draw: what it learned from.
        data: the feature set.
        anew: whether to train a trained method anew even where it had no rival, so that this would
            be most of the work.
    """
    pool = data.pool("val")
    chose = set(draw.val) if draw is not None and race.decided else set()
    unused = [k for k, row in enumerate(pool.rows) if row not in chose and pool.labels[k] >= 0]
    if len(unused) >= LEAST:
        rows, labels = [pool.rows[k] for k in unused], [pool.labels[k] for k in unused]
        return _calibration([_answers(winner, rows, labels, data)], UNUSED)
    if draw is None:
        return None
    found, on = [], []
    own = _halves(winner, race, len(draw.val)) if chose else []
    if own:
        rows, labels = [draw.val[k] for k in own], [draw.val_labels[k] for k in own]
        found.append(_answers(winner, rows, labels, data))
        on.append(HALVES)
    trained = isinstance(winner.method, Trained)
    enough = LEAST if trained else FEW  # training anew is dear
    if len(own) < enough and (anew or race.decided or not trained):
        left_out = _left_out(winner, draw, data)
        found += left_out
        on += [LEFT_OUT] * bool(left_out)
    return _calibration(found, "; ".join(on))


def _halves(winner: Winner, race: Race, n: int) -> list[int]:
    """The validation pictures that would not be missed: without their half the choice stands."""
    places, log_p, homes = race.ranked(winner.method)
    kept: list[int] = []
    for half in (0, 1):
        others = log_p[:, 1 - half :: 2]
        if places[race.policy.best(others, *homes)] == race.chosen:
            kept += range(half, n, 2)
    return sorted(kept)


def _left_out(winner: Winner, draw: Draw, data: SetData) -> list[Answers]:
    """From support pictures that fits of the same settings on the others did not see."""
    seen: Counter[int] = Counter()
    place = []  # of each support picture within its class
    for label in draw.support_labels:
        place.append(seen[label])
        seen[label] += 1
    folds = min(FOLDS, *seen.values())
    if folds < 2:
        return []
    by_size: dict[int, list[tuple[Draw, list[int]]]] = {}
    for fold in range(folds):
        left = [k for k, at in enumerate(place) if at % folds == fold]
        kept = [k for k, at in enumerate(place) if at % folds != fold]
        part = replace(
            draw,
            support=tuple(draw.support[k] for k in kept),
            support_labels=tuple(draw.support_labels[k] for k in kept),
        )
        by_size.setdefault(len(kept), []).append((part, left))
    found = []
    for members in by_size.values():
        settings, seeds = [winner.settings] * len(members), [draw.seed] * len(members)
        task = data.task(type(winner.method), [part for part, _ in members], settings)
        fits = engine.fit(winner.method, task, seeds, lambda share: None, data.limit)
        for first, last, params in fits:
            for v, (_, left) in enumerate(members[first:last]):
                fitted = replace(winner, params=engine.take(params, [v]))
                rows = [draw.support[k] for k in left]
                labels = [draw.support_labels[k] for k in left]
                found.append(_answers(fitted, rows, labels, data, "train"))
    return found if all(logits.isfinite().all() for logits, _ in found) else []


def _answers(
    winner: Winner, rows: Sequence[int], labels: Sequence[int], data: SetData, split: str = "val"
) -> Answers:
    """Logits [1, n, C] and labels [n] of pictures, or of an even choice of `MOST` of them."""
    step = -(-len(rows) // MOST)  # rows stand class by class, so every step-th keeps the shares
    query, wanted = data.pictures(winner.method, split, rows[::step], labels[::step])
    parts = engine.logits_in_parts(winner.method, winner.params, query, data.limit)
    return torch.cat([part for _, _, part in parts], 1), wanted


def _calibration(found: Sequence[Answers], on: str) -> Calibration | None:
    labels = torch.cat([labels for _, labels in found]) if found else torch.empty(0)
    if len(labels) < LEAST:
        return None
    logits = torch.cat([logits for logits, _ in found], 1)
    low, high = wilson(int(hits(logits, labels)) / len(labels), len(labels))
    return Calibration(
        float(true_confidence(logits, labels)), len(labels), on, within=(high - low) / 2
    )
