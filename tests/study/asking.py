"""What tests of stage two ask for, and what is left of it."""

from typing import Any

import numpy as np

from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import DEFAULT_METHODS, Comparison, Request
from cacheclip.study.settings import Given

QUICK = {"clip-adapter": {"epochs": 3}}


def compare(home: Home, request: Request) -> list[Row]:
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return comparison.rows


def request(
    methods: tuple[str, ...] = DEFAULT_METHODS,
    shots: tuple[int, ...] = (1, 4),
    seeds: tuple[int, ...] = (1, 2),
    select: str | None = None,
    settings: Given = QUICK,
) -> Request:
    return Request(methods, shots, seeds, select, settings, on_existing="redo")


def predictions(home: Home, row: Row) -> dict[str, Any]:
    with np.load(home.root / "predictions" / f"{row.row_id}.npz") as kept:
        return dict(kept)
