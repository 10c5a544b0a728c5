"""One temperature a classifier, fitted on labelled pictures that did not choose its settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cacheclip.draws import Draw
from cacheclip.engine import stack as engine
from cacheclip.heads.temperature import fit_temperature
from cacheclip.study.data import SetData
from cacheclip.study.race import Race, Winner

LEAST, MOST = 20, 1000  # pictures; more tell a single number nothing new

UNUSED = "validation pictures that the choice did not read"
HALVES = "validation pictures, each half where the other half chooses the same"


@dataclass(frozen=True)
class Calibration:
    """What divides the logits before the softmax, and what it was fitted on."""

    temperature: float
    n: int
    on: str


def calibrate(winner: Winner, race: Race, draw: Draw | None, data: SetData) -> Calibration | None:
    """The winner's temperature (1706.04599); None where there are too few pictures for it.

    Validation pictures that the choice did not read come first. Where it read them all, they are
    cut in halves: those of one half count if the other half alone chooses the same settings.
    """
    pool = data.pool("val")
    chose = set(draw.val) if draw is not None and race.front is not None else set()
    unused = [k for k in range(len(pool.rows)) if pool.rows[k] not in chose]
    unused = [k for k in unused if pool.labels[k] >= 0]
    if len(unused) >= LEAST:
        rows, labels = [pool.rows[k] for k in unused], [pool.labels[k] for k in unused]
        return _fit(winner, rows, labels, UNUSED, data)
    if draw is None or not chose:
        return None
    own = _halves(winner, race, len(draw.val))
    if len(own) < LEAST:
        return None
    rows, labels = [draw.val[k] for k in own], [draw.val_labels[k] for k in own]
    return _fit(winner, rows, labels, HALVES, data)


def _halves(winner: Winner, race: Race, n: int) -> list[int]:
    """The validation pictures that would not be missed: without their half the choice stands."""
    places, log_p, home = race.ranked(winner.method)
    kept: list[int] = []
    for half in (0, 1):
        others = log_p[:, 1 - half :: 2]
        if places[race.policy.best(others, home)] == race.chosen:
            kept += range(half, n, 2)
    return sorted(kept)


def _fit(
    winner: Winner, rows: Sequence[int], labels: Sequence[int], on: str, data: SetData
) -> Calibration:
    step = -(-len(rows) // MOST)  # rows stand class by class, so every step-th keeps the shares
    query, wanted = data.val_query(winner.method, rows[::step], labels[::step])
    with torch.no_grad():
        parts = engine.logits_in_parts(winner.method, winner.params, query, data.limit)
        logits = torch.cat([part for _, _, part in parts], 1)  # [1, n, C]
    return Calibration(float(fit_temperature(logits, wanted)), len(wanted), on)
