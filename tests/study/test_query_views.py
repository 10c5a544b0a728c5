"""Views of the pictures that are answered for reach the method that reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.methods.tpt import Tpt
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.fit import fit
from cacheclip.task import unit
from tests.makers import CLASSES, DIM, PER_CLASS, add_store, cacheclip
from tests.study.test_frozen_parts import with_tower

ASKED = Request(("tpt",), (2,), (1,), settings={"views": 3, "surest": 0.4})


def views(split: str) -> NDArray[np.float32]:
    """[n, 4, D] as they come back from a store, one more than is asked for."""
    x = np.random.default_rng(3).normal(size=(CLASSES * PER_CLASS[split], 4, DIM))
    return x.astype(np.float16).astype(np.float32)


@pytest.fixture
def viewed(home: Home) -> Home:
    with_tower(home)
    for split in ("val", "test"):
        add_store(home, split, "image", views(split), views=4)
    return home


def test_they_are_unit_rows_whether_memory_has_room_for_them_or_not(viewed: Home) -> None:
    method = Tpt(views=3)
    want = unit(torch.from_numpy(views("test"))[:, :3])
    for limit in (10**9, 1):
        data = SetData(viewed.find(), torch.device("cpu"), limit)
        query = data.test_query(method)
        torch.testing.assert_close(query.part(4, 9)["image/views"], want[4:9])
        held, _ = data.pictures(method, "val", [2, 0], [0, 0])
        own = unit(torch.from_numpy(views("val"))[[2, 0], :3])
        torch.testing.assert_close(held["image/views"], own)
    assert data.test_query(Tpt(views=2))["image/views"].shape[1] == 2


def test_a_row_says_what_it_read_and_a_bundle_answers_alike(viewed: Home, tmp_path: Path) -> None:
    (row,) = [
        row for _, row in Comparison(ASKED, viewed.find(), viewed).run() if row.method == "tpt"
    ]
    assert row.error is None
    assert row.views == "3"
    assert {"test/image", "test/image/views", "tokens", "tower"} == set(row.stores)
    fit(ASKED, viewed.find(), viewed, out=tmp_path / "b.safetensors")
    told = cacheclip(
        "predict", tmp_path / "b.safetensors", "--on", "toys/test", "--home", viewed.root, "--json"
    )
    assert told.code == 0, told.err
    right = np.mean([one["class"] == one["label"] for one in json.loads(told.out)])
    assert row.top1_test == pytest.approx(right)


def test_without_them_the_command_that_makes_them_is_named(home: Home) -> None:
    with_tower(home)
    with pytest.raises(StoreError, match="no 3 views of layer image of split") as error:
        Comparison(ASKED, home.find())
    assert "--query-views 3" in error.value.fix


def test_without_them_the_method_is_left_out_and_the_others_run(home: Home) -> None:
    """Nothing said how many views, so the constant counts."""
    features = with_tower(home)
    asked = Request(("zero-shot", "tpt"), (2,), (1,))
    (said,) = Comparison(asked, features).refusals
    assert said.startswith("tpt does not run: there are no 64 views of layer image")
    assert "--query-views 64" in said
