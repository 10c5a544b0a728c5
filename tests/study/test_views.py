"""Views of the support pictures reach the methods that are asked to read them, and no others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cacheclip.bundle import Bundle
from cacheclip.errors import StoreError, UsageError
from cacheclip.features import Features
from cacheclip.inference.cached import cached_rows, find_cached, learned_from
from cacheclip.inference.rows import predict_rows
from cacheclip.methods.gda import Gda
from cacheclip.methods.prolip import Prolip
from cacheclip.methods.tip_adapter import TipAdapter
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.fit import fit
from cacheclip.study.settings import Given
from cacheclip.task import unit
from tests.makers import CLASSES, DIM, PER_CLASS, add_store

N = CLASSES * PER_CLASS["train"]


def raw_views(count: int, width: int = DIM) -> NDArray[np.float32]:
    """[N, W, D] as they come back from a store, of unequal norms."""
    random = np.random.default_rng(3)
    x = random.normal(size=(N, count, width)) * random.uniform(1, 9, (N, count, 1))
    return x.astype(np.float16).astype(np.float32)


@pytest.fixture
def viewed(home: Home) -> Home:
    add_store(home, "train", "image", raw_views(3), views=3)
    return home


def data_of(home: Home) -> SetData:
    return SetData(home.find(), torch.device("cpu"), 10**9)


def asked(
    settings: Given, methods: tuple[str, ...] = ("gda",), select: str = "fixed", **more: Any
) -> Request:
    return Request(methods, (2,), (1,), select, settings, **more)


def rows_of(home: Home, request: Request) -> list[Row]:
    comparison = Comparison(request, home.find(), home)
    rows = [row for _, row in comparison.run()]
    assert [row.error for row in rows] == [None] * len(rows)
    return rows


@pytest.mark.parametrize("count", [2, 3])
def test_a_task_has_the_first_views_of_each_picture_side_by_side(viewed: Home, count: int) -> None:
    data = data_of(viewed)
    draws = [data.draw(2, seed) for seed in (1, 2)]
    task = data.task(TipAdapter, draws, [TipAdapter.fixed(2, 50.0, given={"views": count})] * 2)
    assert task.views == count
    for v, draw in enumerate(draws):
        own = torch.from_numpy(raw_views(3)[list(draw.support), :count])  # [n, W, D]
        for view in range(count):
            seen = task.support(view)
            torch.testing.assert_close(seen["image"][v], unit(own[:, view]))
            torch.testing.assert_close(seen["image-norm"][v], own[:, view].norm(dim=-1)[:, None])
        torch.testing.assert_close(task.mean_of_views()[v], unit(own.mean(1)))
        torch.testing.assert_close(task.flat().support()["image"][v], unit(own).flatten(0, 1))
    assert data.task(Gda, draws, [Gda.fixed(2, 50.0)] * 2).views == 1


def test_layers_other_than_the_image_keep_their_lengths(viewed: Home) -> None:
    add_store(viewed, "train", "pre-projection", raw_views(2, 5), views=2)
    data = data_of(viewed)
    settings = Prolip.fixed(2, 50.0, given={"views": 2})
    draw = data.draw(2, 1)
    pool, _ = data._pooled("train", Prolip.reads.support, [draw.support], 2)
    wanted = raw_views(2, 5)[sorted(draw.support)].reshape(-1, 5)
    assert torch.equal(pool["pre-projection"], torch.from_numpy(wanted))
    assert Prolip.of(settings).views == 2


def test_a_row_says_its_views_and_the_store_that_they_came_from(viewed: Home) -> None:
    plain, two = rows_of(viewed, asked({"views": [1, 2]}))[-2:]
    assert (plain.views, two.views) == (None, "2")
    assert "views" not in plain.hparams
    assert two.hparams["views"] == 2
    assert {"train/image", "test/image", "text"} == set(plain.stores)
    assert {"train/image/views", "test/image", "text"} == set(two.stores)
    assert two.n_train == plain.n_train == 2 * CLASSES
    assert rows_of(viewed, asked({"views": 2}, on_existing="redo"))[-1].row_id == two.row_id


def test_one_view_is_the_row_it_always_was(viewed: Home, tmp_path: Path) -> None:
    (*_, unasked) = rows_of(viewed, asked({}))
    (*_, one) = rows_of(viewed, asked({"views": 1}, on_existing="redo"))
    assert one.row_id == unasked.row_id
    assert one.top1_test == unasked.top1_test


def test_views_are_chosen_like_any_setting(viewed: Home) -> None:
    (row,) = rows_of(viewed, asked({"views": [1, 3]}, select="fewshot-val"))
    assert row.views == "1,3"
    assert {"train/image", "train/image/views"} <= set(row.stores)
    tried = {point["hparams"].get("views", 1) for point in row.curve or ()}
    assert tried == {1, 3}


def test_a_word_that_goes_unsaid_may_be_one_of_several(home: Home) -> None:
    request = asked({"class_weight": ["none", "balanced"]}, ("linear-probe",), "full-val")
    (row,) = [row for row in rows_of(home, request) if row.method == "linear-probe"]
    tried = {point["hparams"].get("class_weight", "none") for point in row.curve or ()}
    assert tried == {"none", "balanced"}


def test_views_that_are_not_there_are_an_error_that_makes_them(home: Home) -> None:
    with pytest.raises(StoreError, match="gda: there are no 4 views of layer image") as error:
        Comparison(asked({"views": 4}), home.find())
    assert "--views 4" in error.value.fix
    request = asked({"gda": {"views": 4}}, ("tip-adapter", "gda"))
    comparison = Comparison(request, home.find())
    assert "tip-adapter" in {block.method.name for block in comparison.blocks}
    (said,) = comparison.refusals
    assert said.startswith("gda does not run: there are no 4 views of layer image of split train;")
    assert "--views 4" in said
    x = np.random.default_rng(0).normal(size=(8, 4))
    arrays = Features.of(
        x, np.arange(8) // 4, split=["train", "test"] * 4, text=x[:2], logit_scale=9
    )
    with pytest.raises(StoreError, match="no 2 views of layer image"):
        Comparison(asked({"views": 2}), arrays.source)


def test_what_learns_from_all_splits_has_no_views(viewed: Home) -> None:
    with pytest.raises(UsageError, match="views of train alone"):
        fit(asked({"views": 2}), viewed.find(), viewed, final=True)


def test_a_bundle_of_views_answers_for_pictures_as_they_are(viewed: Home) -> None:
    fitted = fit(asked({"views": 3}, ("tip-adapter-f",)), viewed.find(), viewed)
    assert fitted.bundle is not None
    bundle, found = Bundle.read(fitted.bundle), viewed.find()
    assert bundle.static["views"] == 3
    assert [learned_from(bundle, found, split) for split in ("train", "test")] == [True, False]
    answers = list(
        predict_rows(bundle, cached_rows(bundle, find_cached(bundle, viewed, "toys/test")), 1)
    )
    right = sum(a.top[0][0] == a.label for a in answers)
    assert right / len(answers) == fitted.row.top1_test
