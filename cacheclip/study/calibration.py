"""One temperature a classifier, fitted on labelled pictures that did not choose its settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cacheclip.answers import Answered
from cacheclip.draws import Draw
from cacheclip.heads.temperature import true_confidence
from cacheclip.methods.base import Trained
from cacheclip.metrics import hits, wilson
from cacheclip.study.data import SetData
from cacheclip.study.evidence import answers_of_folds
from cacheclip.study.folds import folds
from cacheclip.study.heads import Heads, fit, held_out
from cacheclip.study.plan import Variant
from cacheclip.study.race import Race
from cacheclip.study.told import Told

LEAST, FEW, MOST = 16, 60, 1000  # pictures; beyond the last a single number learns nothing new

UNUSED = "validation pictures that the choice did not read"
LEFT_OUT = "support pictures, by fits that did not see them"
HALVES = "validation pictures, each half where the other half chooses the same"


@dataclass(frozen=True)
class Answers:
    """What a variant says of pictures: logits [1, n, C], and their labels [n]."""

    logits: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Calibration:
    """What divides the logits before the softmax, and what it was fitted on."""

    temperature: float
    n: int
    on: str
    within: float  # half of the 95 % interval of the share of them that is right
    answered: Answered  # what is said of them at that temperature


def calibrate(
    winner: Heads, race: Race, data: SetData, *, anew: bool, keep_logits: bool = False
) -> Calibration | None:
    """The winner's temperature; None where there are too few pictures for it.

    Validation pictures that the choice did not read come first. Where it read them all, they are
    cut in halves: those of one half count if the other half alone chooses the same settings. Where
    that leaves few, the settings are fitted anew on parts of the support, and the rest counts too.
    Where folds of the support chose, no validation picture is read, and what the winner's folds say
    of the pictures that they did not see counts, though it chose.

    Args:
        winner: of the race, one variant as it is served.
        race: the candidates that it won against.
        data: the feature set.
        anew: whether to train a trained method anew even where it had no rival, so that this would
            be most of the work.
        keep_logits: whether the answers are to have all logits.
    """
    if race.policy.held == "folds":
        of_folds = [race.folds] if race.folds else []
        return _calibration(
            [Answers(*answers_of_folds(own, data, MOST)) for own in of_folds],
            LEFT_OUT,
            keep_logits,
        )
    (variant,) = winner.variants
    draw, pool = variant.draw, data.pool("val")
    decided = race.decided or winner.method.stops
    read = (race.decided and race.policy.reads_val) or winner.method.stops
    chose = set(draw.val) if draw is not None and read else set()
    unused = [k for k, row in enumerate(pool.rows) if row not in chose and pool.labels[k] >= 0]
    if len(unused) >= LEAST:
        rows, labels = [pool.rows[k] for k in unused], [pool.labels[k] for k in unused]
        return _calibration([_answers(winner, "val", rows, labels, data)], UNUSED, keep_logits)
    if draw is None:
        return None
    found, on = [], []
    own = _halves(race, len(draw.val)) if chose and not winner.method.stops else []
    if own:
        rows, labels = [draw.val[k] for k in own], [draw.val_labels[k] for k in own]
        found.append(_answers(winner, "val", rows, labels, data))
        on.append(HALVES)
    trained = isinstance(winner.method, Trained)
    enough = LEAST if trained else FEW  # training anew is dear
    if len(own) < enough and (anew or decided or not trained):
        left_out = _left_out(winner, variant, draw, data)
        found += left_out
        on += [LEFT_OUT] * bool(left_out)
    return _calibration(found, "; ".join(on), keep_logits)


def on_choice(
    winner: Heads, race: Race, temperature: float, data: SetData, *, keep_logits: bool = False
) -> Answered | None:
    """What the winner says of validation pictures that it was chosen on; None where none chose.

    Args:
        winner: of the race, one variant as it is served.
        race: the candidates that it won against.
        temperature: what divides its logits before the softmax.
        data: the feature set.
        keep_logits: whether the answers are to have all logits.
    """
    draw = winner.variants[0].draw
    chose = race.policy.reads_val and (race.decided or winner.method.stops)
    if draw is None or not draw.val or not chose:
        return None
    answers = _answers(winner, "val", draw.val, draw.val_labels, data)
    return _told(answers, temperature, keep_logits)


def _halves(race: Race, n: int) -> list[int]:
    """The validation pictures that would not be missed: without their half the choice stands."""
    ranking = race.ranking
    kept: list[int] = []
    for half in (0, 1):
        if ranking.best(race.policy, slice(1 - half, None, 2)) is race.front:
            kept += range(half, n, 2)
    return sorted(kept)


def _left_out(winner: Heads, variant: Variant, draw: Draw, data: SetData) -> list[Answers]:
    """From support pictures that fits of the same settings on the others did not see."""
    by_size: dict[int, list[Variant]] = {}
    for part in folds(draw, even=False):
        own = Variant(variant.cell, variant.settings, part, variant)
        by_size.setdefault(len(part.support), []).append(own)
    found = []
    for own_size in by_size.values():
        for heads in fit(winner.method, own_size, data):
            found += [Answers(*answers_of_folds(heads, data, MOST))]
    return found if all(answers.logits.isfinite().all() for answers in found) else []


def _answers(
    heads: Heads, split: str, rows: Sequence[int], labels: Sequence[int], data: SetData
) -> Answers:
    """What one variant says of pictures, or of an even choice of `MOST` of them."""
    step = -(-len(rows) // MOST)  # rows stand class by class, so every step-th keeps the shares
    query, wanted = held_out(heads.method, split, rows[::step], labels[::step], data)
    return Answers(heads.answers(query, data.limit)[:, : len(wanted)], wanted)


def _calibration(found: Sequence[Answers], on: str, keep_logits: bool) -> Calibration | None:
    labels = torch.cat([answers.labels for answers in found]) if found else torch.empty(0)
    if len(labels) < LEAST:
        return None
    logits = torch.cat([answers.logits for answers in found], 1)
    low, high = wilson(int(hits(logits, labels)) / len(labels), len(labels))
    temperature = float(true_confidence(logits, labels))
    told = _told(Answers(logits, labels), temperature, keep_logits)
    return Calibration(temperature, len(labels), on, (high - low) / 2, told)


def _told(answers: Answers, temperature: float, keep_logits: bool) -> Answered:
    """What is kept of one variant's answers."""
    T = answers.logits.new_tensor([temperature])
    told = Told.of(answers.logits, answers.labels, T, keep_logits=keep_logits)
    return told.answered(answers.logits.shape[-1])[0]
