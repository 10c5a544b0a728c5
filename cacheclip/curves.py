"""What competed for a row, as columns: the settings that vary, hits and likelihoods.

A point of a curve is all settings of a candidate with what they did on n validation pictures. A
search tries a thousand, which differ in two or three settings, each of few values: so each setting
has its values once, and a point their numbers.
"""

import json
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.files.typed import fits

Point = dict[str, Any]  # hparams; top1_val and nll_val, None where the candidate was not fit
Columns = Mapping[str, NDArray[Any]]

NAMES = ("settings", "codes", "hits", "nll", "n")
NOT_FIT = -1  # in the place of hits


def columns(points: Sequence[Point], n: int) -> dict[str, NDArray[Any]]:
    """The columns of P points.

    Args:
        points: P of them.
        n: validation pictures.

    Returns:
        `settings`, bytes of JSON: each setting's values, null among them where some points lack it;
        `codes` [P, S], the number of its value for each of the S settings that have several;
        `hits` [P]; `nll` [P], NaN where it is not known; `n`.
    """
    names = dict.fromkeys(name for point in points for name in point["hparams"])
    values: dict[str, list[Any]] = {}
    codes = []
    for name in names:
        own = [point["hparams"].get(name) for point in points]
        numbers = {text: k for k, text in enumerate(dict.fromkeys(map(json.dumps, own)))}
        values[name] = [json.loads(text) for text in numbers]
        if len(numbers) > 1:
            codes.append([numbers[json.dumps(value)] for value in own])
    hits = [NOT_FIT if p["top1_val"] is None else round(p["top1_val"] * n) for p in points]
    nll = [np.nan if p["nll_val"] is None else p["nll_val"] for p in points]
    narrow = np.uint16 if len(points) <= 2**16 else np.uint32
    return {
        "settings": np.frombuffer(json.dumps(values).encode(), np.uint8),
        "codes": np.array(codes, narrow).reshape(len(codes), len(points)).T,  # [P, S]
        "hits": np.array(hits, np.int32),
        "nll": np.array(nll, np.float64),
        "n": np.array(n),
    }


def points(held: Columns) -> list[Point]:
    """The points that columns hold.

    Raises:
        ValueError: they do not belong together.
    """
    values = json.loads(held["settings"].tobytes())
    if not fits(values, dict[str, list[Any]]):
        raise ValueError("the settings are no lists of values")
    varied = [name for name, own in values.items() if len(own) > 1]
    codes, hits, nll, n = held["codes"], held["hits"], held["nll"], int(held["n"])
    if codes.shape != (len(hits), len(varied)) or nll.shape != hits.shape:
        raise ValueError("columns of different lengths")
    if n < 1 and any(hits != NOT_FIT):
        raise ValueError("hits of no pictures")
    if any(codes[:, s].max(initial=0) >= len(values[name]) for s, name in enumerate(varied)):
        raise ValueError("a setting has no such value")
    found = []
    for own, right, loss in zip(codes.tolist(), hits.tolist(), nll.tolist(), strict=True):
        chosen = dict(zip(varied, own, strict=True))
        every = {name: own[chosen.get(name, 0)] for name, own in values.items()}
        found.append(
            {
                "hparams": {name: value for name, value in every.items() if value is not None},
                "top1_val": None if right == NOT_FIT else right / n,
                "nll_val": None if isnan(loss) else loss,
            }
        )
    return found
