"""Heads that read the shots of classes they never learned, halves by difficulty, intervals."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch

from cacheclip.answers import predictions
from cacheclip.methods.meta_adapter import MetaAdapter
from cacheclip.results import Row
from cacheclip.store.features import FeatureSet
from cacheclip.store.home import Home
from cacheclip.store.scope import EASY, HARD, Scope
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.target_intervals import intervals
from cacheclip.study.target_table import by_target, notes
from tests.makers import build_home
from tests.study.test_targets import compared, of, row

ASKED = Request(("zero-shot", "meta-adapter"), (2,), (1, 2), "fixed", {"epochs": 3, "lr": 0.05})
BASE_TO_NEW = replace(ASKED, base_to_new=True)


@pytest.fixture
def strange(home: Home) -> FeatureSet:
    """The same encoder on classes of other names."""
    build_home(home.root, "strange")
    own = home.find("strange")
    names = ["w", "x", "y", "z"]
    return replace(own, labels=replace(own.labels, dataset="strange", classnames=names))


def of_seed(rows: list[Row], seed: int) -> list[Row]:
    return [own for own in of(rows, "meta-adapter") if own.seed == seed]


def test_new_classes_are_answered_for_by_their_own_text_and_shots(home: Home) -> None:
    comparison = Comparison(BASE_TO_NEW, home.find("toys"), home)
    outcomes = {(r.method, r.classes, r.seed): o for o, r in comparison.run()}
    new = comparison.targets[0].data
    for seed in (1, 2):
        base, own, every = of_seed(comparison.rows, seed)
        assert base.eval_draw_id is None
        assert own.eval_draw_id == new.draw(2, seed).draw_id != base.draw_id
        assert every.eval_draw_id not in (None, own.eval_draw_id)
        winner = outcomes["meta-adapter", "base", seed].race.winner
        assert winner is not None
        settings = winner.variants[0].settings
        task = new.task(MetaAdapter, [new.draw(2, seed)], [settings])
        assert task.labels.tolist() == [[0, 0, 1, 1]]
        head = winner.method.head(winner.params, task)
        told = winner.method.logits(head, new.test_query(winner.method))[0].argmax(-1)
        np.testing.assert_array_equal(predictions(home, own.row_id).predicted, told)


def test_a_row_of_new_shots_is_marked_and_the_same_without_them_is_another(home: Home) -> None:
    rows = compared(home, BASE_TO_NEW).rows
    labels = [line[0] for line in by_target(rows)[1]]
    assert labels == ["zero-shot", "meta-adapter (new shots)"]
    assert any("meta-adapter read support pictures" in line for line in notes(rows))
    own = of_seed(rows, 1)[1]
    assert replace(own, eval_draw_id=None).row_id != own.row_id


def test_test_labels_of_new_classes_move_no_answer(home: Home) -> None:
    own = home.find("toys")
    test = own.labels.splits["test"]
    moved = replace(test, labels=[{2: 3, 3: 2}.get(label, label) for label in test.labels])
    labels = replace(own.labels, splits={**own.labels.splits, "test": moved})
    request = replace(BASE_TO_NEW, on_existing="redo")
    told = []
    for features in (own, replace(own, labels=labels)):
        new = of_seed(compared(home, request, features).rows, 1)[1]
        kept = predictions(home, new.row_id)
        told.append(dict(zip(kept.ids, kept.predicted.tolist(), strict=True)))
    assert told[0] == told[1]


def test_a_set_of_other_classes_is_answered_for_by_its_own_text(
    home: Home, strange: FeatureSet
) -> None:
    methods = ("zero-shot", "linear-adapter", "clip-adapter", "meta-adapter")
    request = replace(ASKED, methods=methods, settings={}, test_on=(strange,))
    comparison = compared(home, request)
    there = [own for own in comparison.rows if own.eval_dataset == "strange"]
    assert {own.method for own in there} == set(methods)
    for own in there:
        assert (own.n_classes, own.classes) == (4, "all")
        assert "eval/text" in own.stores
        assert (own.eval_draw_id is not None) == (own.method == "meta-adapter")
        assert ("eval/train/image" in own.stores) == (own.method == "meta-adapter")
    assert any("its own 4 classes" in line for line in comparison.notices)
    bound = compared(home, replace(request, methods=("tip-adapter", "zero-shot"), settings={}))
    assert bound.refusals == ["only for the classes that they learn from, so left out: tip-adapter"]


def test_of_shared_classes_it_reads_the_other_set_s_shots_for_the_same_pictures(
    home: Home, strange: FeatureSet
) -> None:
    alike = replace(strange, labels=replace(strange.labels, classnames=["doe", "x", "ant", "bee"]))
    comparison = compared(home, replace(ASKED, test_on=(alike,)))
    (target,) = comparison.targets
    assert target.columns == (3, 0, 1)
    there = [own for own in comparison.rows if own.eval_dataset == "strange"]
    assert len({own.test_id for own in there}) == 1
    ids = {own.eval_draw_id for own in there if own.method == "meta-adapter"}
    assert ids == {target.data.draw(2, seed).draw_id for seed in (1, 2)}


def test_too_few_shots_of_new_classes_fail_the_cell_and_no_other(home: Home) -> None:
    build_home(home.root, "poor", train=(4, 4, 1, 4))
    comparison = Comparison(BASE_TO_NEW, home.find("poor"))
    errors = [own.error for _, own in comparison.run() if own.method == "meta-adapter"]
    assert all(error and "cow" in error for error in errors)
    assert all(own.error is None for own in of(comparison.rows, "zero-shot"))
    kept = Comparison(replace(BASE_TO_NEW, fewer="keep"), home.find("poor"))
    assert all(own.error is None for _, own in kept.run())


def test_halves_by_difficulty_are_told_on_training_pictures(home: Home) -> None:
    own, request = home.find("toys"), replace(ASKED, base_to_new="difficulty")
    comparison = compared(home, request)
    assert [r.classes for r in of_seed(comparison.rows, 1)] == [EASY, HARD, "all"]
    easy, hard = comparison.data.classnames, comparison.targets[0].data.classnames
    assert sorted([*easy, *hard]) == sorted(own.labels.classnames)
    assert all(r.classnames for r in comparison.rows if r.classes != "all")
    store, text = own.store("train"), torch.from_numpy(own.text.load())  # type: ignore[union-attr]
    x = torch.from_numpy(store.read_rows(range(store.rows)).features)
    weight = torch.nn.functional.normalize(torch.nn.functional.normalize(text, dim=-1).mean(1))
    told, labels = (x @ weight.mT).argmax(-1), torch.tensor(own.labels.splits["train"].labels)
    right = [float((told == labels)[labels == c].double().mean()) for c in range(4)]
    of_name = dict(zip(own.labels.classnames, right, strict=True))
    assert min(of_name[name] for name in easy) >= max(of_name[name] for name in hard)
    test = own.labels.splits["test"]
    moved = replace(test, labels=[3 - label for label in test.labels])
    other = replace(own, labels=replace(own.labels, splits={**own.labels.splits, "test": moved}))
    features = Comparison(request, other).data.features
    assert isinstance(features, Scope)
    assert [own.labels.classnames[label] for label in features.classes] == list(easy)


def test_intervals_are_students_and_differences_are_paired() -> None:
    cells = [
        row(method=name, classes=half, seed=seed, top1_test=x, shots=0 if seed is None else 2)
        for name, half, seeds in (
            ("zero-shot", "base", {None: 0.5}),
            ("zero-shot", "new", {None: 0.5}),
            ("coop", "base", {1: 0.6, 2: 0.7, 3: 0.8}),
            ("coop", "new", {1: 0.6, 2: 0.6, 3: 0.6}),
        )
        for seed, x in seeds.items()
    ]
    (_, (headers, (line,))), (_, (_, (apart,))) = intervals(cells)
    assert headers == ["method", "shots", "base", "new", "mean H"]
    wide = 4.302653 * 10 / sqrt(3)  # Student's t of two degrees of freedom
    assert line[:4] == ["coop", "2", f"{70 - wide:.1f} to {70 + wide:.1f}", "60.0 to 60.0"]
    assert apart[2:4] == [f"{20 - wide:.1f} to {20 + wide:.1f}", "10.0 to 10.0"]
    assert not [*intervals([own for own in cells if own.seed in (None, 1)])]
