"""Some classes of a feature set are a feature set: labels, text, tokens and draws are theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.draws import coop
from cacheclip.errors import UsageError
from cacheclip.features import Features
from cacheclip.methods.base import Reads
from cacheclip.store.home import Home
from cacheclip.store.scope import BASE, NEW, Scope, half, name_of, scoped
from cacheclip.study.data import SetData
from cacheclip.study.supports import COOP, LISTED
from tests.makers import build_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return build_home(tmp_path_factory.mktemp("scopes") / "home")


def data_of(source: Any) -> SetData:
    return SetData(source, torch.device("cpu"), 10**8)


def test_base_is_the_first_half_and_the_larger_one() -> None:
    assert [list(half(name, 5)) for name in (BASE, NEW)] == [[0, 1, 2], [3, 4]]
    assert [list(half(name, 4)) for name in (BASE, NEW)] == [[0, 1], [2, 3]]


def test_other_classes_were_never_there(home: Home) -> None:
    whole = home.find()
    new = scoped(whole, [NEW])
    assert list(new.labels.classnames) == ["cow", "doe"]
    test = np.array(whole.labels.splits["test"].labels)
    moved = np.where(test < 2, -1, test - 2)
    np.testing.assert_array_equal(new.labels.splits["test"].labels, moved)
    np.testing.assert_array_equal(new.text.load(), whole.text.load()[2:])  # type: ignore[union-attr]
    data = data_of(new)
    assert data.test_ids == [own for own in data_of(whole).test_ids if own[5] in "23"]
    assert set(data.open_test_labels()) == {0, 1}
    assert (data.classes, data_of(whole).classes) == (NEW, "all")


def test_named_classes_keep_the_order_of_the_set(home: Home) -> None:
    asked = scoped(home.find(), ["doe", "bee", "doe"])
    assert list(asked.labels.classnames) == ["bee", "doe"]
    assert name_of(asked).startswith("2-of-4-")
    assert name_of(asked) != name_of(scoped(home.find(), ["bee", "cow"]))
    assert not isinstance(scoped(home.find(), ["doe", "cow", "bee", "ant"]), Scope)


def test_some_of_some_classes_are_numbered_by_the_whole_set(home: Home) -> None:
    some = scoped(scoped(home.find(), ["bee", "cow", "doe"]), ["bee", "doe"])
    assert isinstance(some, Scope)
    assert not isinstance(some.whole, Scope)
    assert some.classes == (1, 3)
    assert some == scoped(home.find(), ["bee", "doe"])


def test_half_of_some_classes_goes_by_their_names(home: Home) -> None:
    some = scoped(home.find(), ["bee", "cow", "doe"])
    assert scoped(some, [BASE]) == scoped(home.find(), ["bee", "cow"])
    with pytest.raises(UsageError):
        scoped(some, [NEW])  # a class alone


def test_some_classes_come_from_the_encoder_of_all(home: Home) -> None:
    some = scoped(home.find(), [BASE])
    assert some.name == home.find().name == "toy@v1"
    assert data_of(some).encoders(Reads()) == ["toy@v1"]
    assert data_of(home.find()).named is None
    assert data_of(some).named is None
    assert data_of(scoped(home.find(), ["doe", "bee"])).named == ["bee", "doe"]


@pytest.mark.parametrize("asked", [["ant"], ["ant", "wasp"], []])
def test_classes_that_are_not_there_or_too_few_are_refused(home: Home, asked: list[str]) -> None:
    if not asked:
        assert scoped(home.find(), asked) == home.find()
        return
    with pytest.raises(UsageError):
        scoped(home.find(), asked)


def test_a_draw_is_cut_after_it_was_drawn(home: Home) -> None:
    """The stream of CoOp's generator runs through all classes; ranks know no other class."""
    whole = data_of(home.find())
    for procedure in ("ranked", COOP):
        whole.supports.procedure = procedure
        base = data_of(scoped(home.find(), [NEW]))
        base.supports.procedure = procedure
        for seed in (1, 2, 3):
            every, own = whole.draw(2, seed), base.draw(2, seed)
            kept = [k for k, label in enumerate(every.support_labels) if label >= 2]
            assert own.support_ids == tuple(every.support_ids[k] for k in kept)
            assert own.support_labels == tuple(every.support_labels[k] - 2 for k in kept)
            assert own.val_ids == tuple(i for i in every.val_ids if i[4] in "23")
            whole._pools, whole.supports._made = {}, {}
    alone = coop(base.pool("train"), base.pool("val"), ["cow", "doe"], 2, 3, where="")
    assert alone.support_ids != base.draw(2, 3).support_ids  # what drawing among them would give


def test_a_list_of_a_file_gives_what_it_has_of_these_classes(home: Home) -> None:
    base = data_of(scoped(home.find(), [BASE]))
    base.supports.procedure = LISTED
    ids = [f"train/{c}/{c * 6 + 1}.png" for c in range(4)]
    base.supports.listed = {(1, 1): (ids, [])}
    assert base.draw(1, 1).support_ids == tuple(ids[:2])


def test_python_takes_some_classes_of_features(make: Callable[..., Features]) -> None:
    data = make()
    base = data.only("base")
    assert base.classnames == data.classnames[:2]
    assert set(base.train.y) == set(base.classes)
    assert len(base.train) + len(data.only("new").train) == len(data.train)
    assert len(base.test) + len(data.only("new").test) == len(data.test)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Features]:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 12)
    x = random.normal(size=(48, 8)) + np.eye(8)[y] * 4
    split = np.where(np.arange(48) % 3 == 0, "test", "train")
    return lambda: Features.of(x, y, split=split, classnames=["a", "b", "c", "d"])
