"""Parts of pictures that are more than memory has room for are read when they are answered for."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.store.reader import Store
from cacheclip.study.compare import Comparison, Request
from cacheclip.task import Query, Unread
from tests.makers import CLASSES, DIM, PER_CLASS, add_store, build_home

PARTS = 6
TEST = PER_CLASS["test"] * CLASSES


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = build_home(tmp_path_factory.mktemp("parts") / "home", failed=1)
    random = np.random.default_rng(0)
    for split, count in PER_CLASS.items():
        rows = random.normal(size=(count * CLASSES, PARTS, DIM)).astype(np.float32)
        add_store(home, split, "patches", rows)
    return home


def rows(home: Home, name: str, memory: int) -> list[Row]:
    given: dict[str, Any] = {"epochs": 2, "lr": [1e-2, 1e-3]} if name == "vt-clip" else {}
    anew: Any = {"on_existing": "redo", "max_memory": memory}
    comparison = Comparison(
        Request((name,), (2,), (1,), "full-val", given, **anew), home.find(), home
    )
    return [row for _, row in comparison.run() if row.method == name]


@pytest.mark.parametrize("name", ["calip", "vt-clip"])
def test_what_is_read_part_by_part_is_chosen_and_answered_as_what_is_held(
    name: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    read_rows = Store.read_rows

    def counted(self: Store, rows: Sequence[int], **options: Any) -> Any:
        if self.layer == "patches" and len(rows) not in (0, 2 * CLASSES):  # no support set
            read.append(len(rows))
        return read_rows(self, rows, **options)

    held = rows(home, name, 10**8)
    monkeypatch.setattr(Store, "read_rows", counted)
    unread = rows(home, name, 4 * PARTS * DIM * 8)  # room for eight pictures
    assert sum(read) >= TEST - 1
    if name == "vt-clip":  # a search of CALIP's takes 256 at once
        assert max(read) < TEST / 2
    for a, b in zip(held, unread, strict=True):
        assert a.error is None
        assert (a.hparams, a.top1_val, a.top1_test) == (b.hparams, b.top1_val, b.top1_test)
        assert a.nll_test_raw == pytest.approx(b.nll_test_raw, rel=1e-4)
        assert (a.unverified is None) == (name == "calip")


def test_a_query_of_rows_that_are_not_read_is_that_of_the_rows() -> None:
    whole = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def read(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return whole[rows]

    image = torch.arange(7.0)[:, None]
    place = torch.tensor([8, 1, 0, 3, 2, 5, 7])
    query = Query({"patches": Unread(read, place, (2, 3)), "image": image})
    known = Query({"patches": whole[place], "image": image})
    index = torch.tensor([[1, 6], [0, 0]])
    changes: list[Callable[[Query], Query]] = [
        lambda q: q,
        lambda q: q.part(2, 5),
        lambda q: q.part(2, 5).part(1, 3),
        lambda q: q.variants(0, 1),
        lambda q: q.at(index),
        lambda q: q.beside(known),
    ]
    for change in changes:
        got, want = change(query), change(known)
        assert len(got) == len(want)
        assert torch.equal(got["patches"], want["patches"])
    before = list(asked)
    query.part(0, 4).part(1, 2)
    assert asked == before  # nothing was asked for
    assert query.part(0, 4)["patches"].shape == (4, 2, 3)
    assert asked[-1] == 4
