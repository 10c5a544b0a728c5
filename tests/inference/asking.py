"""How tests ask `predict` about features, and what they take from its answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.makers import Said, cacheclip

NAMES = ["ant", "bee", "cow", "doe"]


def fit(home: Path, out: Path, *options: str) -> None:
    words = ("--method", "nearest-mean", "--shots", "2", "--select", "fixed", *options)
    told = cacheclip("fit", *words, "--home", home, "--out", out)
    assert told.code == 0, told.err


def answers(told: Said) -> list[dict[str, Any]]:
    assert told.code == 0, told.err
    found: list[dict[str, Any]] = json.loads(told.out)
    return found


def classes(told: Said) -> list[str]:
    return [one["class"] for one in answers(told)]


def of_file(bundle: Path, file: Path, x: Any, *options: str, **beside: Any) -> Said:
    if file.suffix == ".npy":
        np.save(file, x)
    else:
        np.savez_compressed(file, features=x, **beside)
    return cacheclip("predict", bundle, "--features", file, *options)


def refused(told: Said, code: int, *said: str) -> None:
    assert told.code == code, told.err
    assert told.out == ""
    assert len(told.err.splitlines()) == 3, told.err
    for text in said:
        assert text in told.err
