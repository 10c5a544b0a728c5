"""Stage two reads and holds the rows that it uses, and no others."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cacheclip.draws import Draw
from cacheclip.exchange.import_npz import import_npz
from cacheclip.store.home import Home
from cacheclip.store.reader import Features, Store
from cacheclip.study.compare import Comparison, Request

CLASSES, DIM, TRAIN, SMALL = 10, 256, 40_000, 100
METHODS = ("nearest-mean", "linear-probe", "tip-adapter")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Give a home with 40,000 training rows of 256 numbers, 41 MB in float32, and few others."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(0)
    split = np.array(["train"] * TRAIN + ["val"] * SMALL + ["test"] * SMALL)
    labels = np.arange(len(split)) % CLASSES
    centres = random.standard_normal((CLASSES, DIM), np.float32)
    features = (centres[labels] + random.standard_normal((len(split), DIM), np.float32)).astype(
        np.float16
    )
    file = folder / "large.npz"
    np.savez(
        file,
        features=features,
        labels=labels,
        split=split,
        text_features=centres,
        logit_scale=np.array(100.0),
    )
    home = Home(folder / "home")
    import_npz(file, home)
    file.unlink()
    return home


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Give the split and the rows of every reading to come."""
    told: list[tuple[str, list[int]]] = []
    real = Store.read_rows

    def read_rows(
        self: Store, rows: Sequence[int] | NDArray[np.int64], *, normalize: bool = False
    ) -> Features:
        told.append((self.path.parent.name, np.asarray(rows).tolist()))
        return real(self, rows, normalize=normalize)

    monkeypatch.setattr(Store, "read_rows", read_rows)
    return told


def compare(home: Home, results: Path, select: str, seeds: tuple[int, ...]) -> list[Draw]:
    request = Request(METHODS, (1, 4), seeds, select)
    comparison = Comparison(request, home.find(), Home(results))
    assert all(row.error is None for _, row in comparison.run())
    return [draw for drawn in comparison.draws.values() for draw in drawn]


@pytest.mark.parametrize("select", ["fixed", "full-val"])
def test_memory_is_that_of_the_rows_used(large: Home, tmp_path: Path, select: str) -> None:
    compare(large, tmp_path / "warm", select, (1,))  # what is loaded once does not count
    tracemalloc.start()
    try:
        compare(large, tmp_path / "results", select, (1,))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < TRAIN * DIM * 4 / 2  # ids and labels of all rows, and vectors of few


def test_a_row_is_read_once_and_for_rows_of_the_table_that_are_there_none(
    large: Home, tmp_path: Path, reads: list[tuple[str, list[int]]]
) -> None:
    drawn = compare(large, tmp_path, "fixed", (1, 2))
    train = [rows for split, rows in reads if split == "train" and rows]
    assert train == [sorted({row for draw in drawn for row in draw.support})]
    assert [split for split, rows in reads if split == "test"] == ["test"]
    reads.clear()
    compare(large, tmp_path, "fixed", (1, 2))
    assert reads == []
    drawn = compare(large, tmp_path, "fixed", (2, 3))
    train = [rows for split, rows in reads if split == "train" and rows]
    assert train == [sorted({row for draw in drawn if draw.seed == 3 for row in draw.support})]
