"""One fit, several tests: base and new classes, other data sets, and several starts."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.answers import predictions
from cacheclip.errors import InputError, StoreError, UsageError
from cacheclip.results import LOG, Row
from cacheclip.store.features import FeatureSet
from cacheclip.store.home import Home
from cacheclip.store.labels import Labels
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.target_table import by_target, means
from cacheclip.task import unit
from tests.makers import ROW, build_home, cacheclip

METHODS = ("zero-shot", "linear-adapter")
QUICK = {"linear-adapter": {"epochs": 5, "lr": 0.01}}
ASKED = Request(METHODS, (2,), (1,), "fixed", QUICK)
BASE_TO_NEW = replace(ASKED, base_to_new=True)


def compared(home: Home, request: Request, features: FeatureSet | None = None) -> Comparison:
    comparison = Comparison(request, features or home.find("toys"), home)
    for outcome, _ in comparison.run():
        assert not isinstance(outcome.result, Exception), outcome.result
    return comparison


def shown(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    return [(r.method, r.eval_dataset, r.classes, r.learned_classes, r.top1_test) for r in rows]


def of(rows: Sequence[Row], method: str) -> list[Row]:
    return [row for row in rows if row.method == method]


@pytest.fixture
def wild(home: Home) -> FeatureSet:
    """The same encoder on other pictures: classes in another order, one that nobody learns."""
    build_home(home.root, "wild")
    own = home.find("wild")
    names = ["Doe", "fox", "ant", "bee"]
    return replace(own, labels=Labels("wild", names, own.labels.splits), text=None, texts={})


def map_of(home: Home, request: Request) -> tuple[torch.Tensor, torch.Tensor]:
    """What a linear adapter learned, [D, D], and all text [C, D]."""
    comparison = Comparison(replace(request, on_existing="redo"), home.find("toys"), home)
    found = [o for o, row in comparison.run() if row.method == "linear-adapter"]
    winner = found[0].race.winner
    assert winner is not None
    text = torch.from_numpy(home.find("toys").text.load())  # type: ignore[union-attr]
    return winner.params["map"][0], unit(unit(text).mean(1))


def answers(features: FeatureSet, map_: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The class of each test picture by the equation, [n]."""
    store = features.store("test")
    x = unit(torch.from_numpy(store.read_rows(range(store.rows)).features))
    return (unit(x @ map_) @ weight.mT).argmax(-1)


def test_a_fit_on_base_answers_for_classes_that_it_never_met(home: Home) -> None:
    rows = of(compared(home, BASE_TO_NEW).rows, "linear-adapter")
    assert [(row.classes, row.learned_classes, row.n_classes) for row in rows] == [
        ("base", None, 2) if name == "base" else (name, "base", n)
        for name, n in (("base", 2), ("new", 2), ("all", 4))
    ]
    assert len({row.draw_id for row in rows}) == 1
    map_, text = map_of(home, BASE_TO_NEW)
    labels = torch.tensor(home.find("toys").labels.splits["test"].labels)
    for row, first, last in zip(rows, (0, 2, 0), (2, 4, 4), strict=True):
        kept = (labels >= first) & (labels < last)
        told = answers(home.find("toys"), map_, text[first:last])[kept]
        np.testing.assert_array_equal(predictions(home, row.row_id).predicted, told)
        right = (told == labels[kept] - first).double().mean()
        assert row.top1_test == pytest.approx(float(right))


def test_what_learns_nothing_answers_for_any_classes_at_the_temperature_of_those_learned_from(
    tmp_path: Path,
) -> None:
    home = build_home(tmp_path / "many", val=20)
    base, new, every = of(compared(home, BASE_TO_NEW).rows, "zero-shot")
    assert [row.learned_classes for row in (base, new, every)] == [None, "base", "base"]
    for row in (new, every):
        assert row.top1_test == row.zero_shot_test
        assert row.temperature == base.temperature
        alone = replace(ASKED, methods=("zero-shot",), settings={}, classes=(row.classes,))
        (own,) = compared(home, alone).rows
        assert (own.top1_test, own.learned_classes) == (row.top1_test, None)
        assert own.temperature != row.temperature
        assert own.row_id != row.row_id


def test_shots_of_new_classes_make_another_row(home: Home) -> None:
    new = of(compared(home, BASE_TO_NEW).rows, "linear-adapter")[1]
    own = of(compared(home, replace(ASKED, classes=("new",))).rows, "linear-adapter")[0]
    assert (new.classes, new.test_id) == (own.classes, own.test_id)
    assert (new.learned_classes, own.learned_classes) == ("base", None)
    assert new.row_id != own.row_id


def test_the_base_row_is_that_of_a_comparison_on_base_classes_alone(home: Home) -> None:
    compared(home, BASE_TO_NEW)
    alone = Comparison(replace(ASKED, classes=("base",)), home.find("toys"), home)
    assert alone.reused == 2


def test_methods_bound_to_their_classes_are_left_out_and_named(home: Home) -> None:
    request = replace(BASE_TO_NEW, methods=("tip-adapter", "zero-shot"), settings={})
    assert compared(home, request).refusals == [
        "only for the classes that they learn from, so left out: tip-adapter"
    ]
    with pytest.raises(UsageError, match="only for the classes learned from"):
        compared(home, replace(request, methods=("tip-adapter",)))


def test_only_the_targets_that_are_missing_are_made(home: Home) -> None:
    whole = compared(home, BASE_TO_NEW)
    log = home.root / LOG
    lost = whole.rows[-1].row_id
    lines = [line for line in log.read_text().splitlines() if json.loads(line)["row_id"] != lost]
    log.write_text("\n".join(lines) + "\n")
    again = Comparison(BASE_TO_NEW, home.find("toys"), home)
    assert again.reused == len(whole.rows) - 1
    assert [row.row_id for _, row in again.run()] == [lost]
    assert shown(again.rows) == shown(whole.rows)


def test_another_set_is_answered_through_the_names_of_its_classes(
    home: Home, wild: FeatureSet
) -> None:
    comparison = compared(home, replace(ASKED, test_on=(wild,)))
    own, other = of(comparison.rows, "linear-adapter")
    assert (own.learned_classes, other.learned_classes) == (None, "all")
    assert (other.dataset, other.eval_dataset, other.n_classes) == ("toys", "wild", 3)
    assert own.draw_id == other.draw_id
    map_, text = map_of(home, ASKED)
    labels = torch.tensor(wild.labels.splits["test"].labels)
    kept = labels != 1  # foxes were not learned
    told = answers(wild, map_, text[[3, 0, 1]])[kept]  # doe, ant, bee
    np.testing.assert_array_equal(predictions(home, other.row_id).predicted, told)
    right = told == torch.tensor([0, -1, 1, 2])[labels[kept]]
    assert other.top1_test == pytest.approx(float(right.double().mean()))
    assert any("pictures of 1 of 4 classes are left out" in line for line in comparison.notices)


def test_zero_shot_on_another_set_reads_the_text_that_was_learned_with(
    home: Home, wild: FeatureSet
) -> None:
    own, other = of(compared(home, replace(ASKED, test_on=(wild,))).rows, "zero-shot")
    assert (own.dataset, other.eval_dataset) == ("toys", "wild")
    assert other.top1_test == other.zero_shot_test
    map_, text = torch.eye(16), map_of(home, ASKED)[1]
    kept = [k for k, label in enumerate(wild.labels.splits["test"].labels) if label != 1]
    told = answers(wild, map_, text[[3, 0, 1]])[kept]
    np.testing.assert_array_equal(predictions(home, other.row_id).predicted, told)


def test_labels_of_another_set_decide_its_score_and_nothing_else(
    home: Home, wild: FeatureSet, tmp_path: Path
) -> None:
    test = wild.labels.splits["test"]
    moved = replace(test, labels=[{0: 2, 2: 3, 3: 0}.get(k, k) for k in test.labels])
    other = replace(wild, labels=replace(wild.labels, splits={"test": moved}))
    request = replace(ASKED, select="fewshot-val", on_existing="redo")
    one, two = (compared(home, replace(request, test_on=(own,))).rows for own in (wild, other))
    for before, after in zip(one, two, strict=True):
        assert (before.hparams, before.temperature) == (after.hparams, after.temperature)
        told = [predictions(home, row.row_id) for row in (before, after)]
        if before.eval_dataset == "wild":
            assert before.row_id != after.row_id
            by_id = [dict(zip(own.ids, own.predicted, strict=True)) for own in told]
            assert by_id[0] == by_id[1]
        else:
            assert before.row_id == after.row_id
    assert one[-1].top1_test != two[-1].top1_test


def test_sets_that_cannot_be_answered_are_refused(home: Home, wild: FeatureSet) -> None:
    strange = replace(wild, labels=replace(wild.labels, classnames=["w", "x", "y", "ant"]))
    with pytest.raises(InputError, match="1 of its 4 classes"):
        Comparison(replace(ASKED, test_on=(strange,)), home.find("toys"))
    foreign = replace(wild, encoder={**wild.encoder, "weights_sha256": "1" * 64})
    with pytest.raises(UsageError, match="another encoder"):
        Comparison(replace(ASKED, test_on=(foreign,)), home.find("toys"))
    for twice in ((home.find("toys"),), (wild, wild)):
        with pytest.raises(UsageError, match="would be tested on twice"):
            Comparison(replace(ASKED, test_on=twice), home.find("toys"))
    with pytest.raises(UsageError, match="says itself"):
        Comparison(replace(BASE_TO_NEW, test_on=(wild,)), home.find("toys"))


def test_base_to_new_needs_four_classes_and_test_pictures_of_the_new(home: Home) -> None:
    own = home.find("toys")
    few = replace(own, labels=replace(own.labels, classnames=["ant", "bee", "cow"]))
    with pytest.raises(UsageError, match="two at least each, and here are 3 in all"):
        Comparison(BASE_TO_NEW, few)
    test = own.labels.splits["test"]
    untold = replace(test, labels=[k if k < 2 else -1 for k in test.labels])
    splits = {**own.labels.splits, "test": untold}
    with pytest.raises(StoreError, match="no test picture of its new classes"):
        Comparison(BASE_TO_NEW, replace(own, labels=replace(own.labels, splits=splits)))


def test_held_out_pictures_lie_beside_the_row_of_their_own_classes_alone(
    home: Home, wild: FeatureSet
) -> None:
    """Both sets call their test pictures the same."""
    names = replace(wild.labels, classnames=["doe", "cow", "ant", "bee"])
    rates = {"epochs": 2, "lr": [0.01, 0.02]}
    asked = Request(("linear-adapter",), (2,), select="fewshot-val", settings=rates)
    asked = replace(asked, test_on=(replace(wild, labels=names),))
    own, other = compared(home, asked).rows
    assert own.test_id == other.test_id
    assert predictions(home, own.row_id).choice is not None
    assert predictions(home, other.row_id).choice is None


def test_names_alike_but_for_capitals_are_one_class_unless_one_is_the_same(
    home: Home, wild: FeatureSet
) -> None:
    names = ["ANT", "ant", "b-e", "Cow"]
    twins = replace(wild, labels=replace(wild.labels, classnames=names))
    (target,) = Comparison(replace(ASKED, test_on=(twins,)), home.find("toys")).targets
    assert (target.data.classnames, target.columns) == (["ANT", "ant", "Cow"], (0, 0, 2))


def test_starts_are_apart_from_draws(home: Home) -> None:
    methods = ("nearest-mean", "clip-adapter")
    settings = {"clip-adapter": {"epochs": 3}}
    plain = compared(home, Request(methods, (2,), (1, 2), "fixed", settings)).rows
    both = Request(methods, (2,), (1, 2), "fixed", settings, init_seeds=(1, 2))
    comparison = compared(home, both)
    assert comparison.reused == 4  # both of nearest-mean, and where draw and start are one seed
    started = of(comparison.rows, "clip-adapter")
    assert [(row.seed, row.init_seed) for row in started] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert started[0].row_id == of(plain, "clip-adapter")[0].row_id
    assert started[0].draw_id == started[1].draw_id != started[2].draw_id
    one, two = (predictions(home, row.row_id).true_log_p for row in started[:2])
    assert not np.array_equal(one, two)
    assert [row.init_seed for row in of(comparison.rows, "nearest-mean")] == [None, None]
    assert "clip-adapter 4 (x 2 starts)" in comparison.plan


def row(**own: Any) -> Row:
    return Row(**ROW | own)


def test_both_harmonic_means_stand_in_the_table() -> None:
    cells = [("base", 1, 0.8), ("new", 1, 0.4), ("base", 2, 0.6), ("new", 2, 0.6)]
    rows = [row(classes=name, test_id=name, seed=s, top1_test=x) for name, s, x in cells]
    headers, (line,) = by_target(rows)
    assert headers == ["method", "shots", "base", "new", "H of means", "mean H"]
    of_means, of_runs = 2 * 0.7 * 0.5 / 1.2, (2 * 0.8 * 0.4 / 1.2 + 0.6) / 2
    assert line[-2:] == [f"{100 * of_means:.1f}", f"{100 * of_runs:.1f}"]


def test_over_data_sets_each_counts_the_same() -> None:
    cells = {"a": (0.9, 0.3), "b": (0.5, 0.7)}
    rows = [
        row(dataset=name, eval_dataset=name, classes=half, seed=s, top1_test=x)
        for name, pair in cells.items()
        for half, x in zip(("base", "new"), pair, strict=True)
        for s in (1, 2)
    ]
    _, (line,) = means(rows)
    of_means, of_sets = 2 * 0.7 * 0.5 / 1.2, (2 * 0.9 * 0.3 / 1.2 + 2 * 0.5 * 0.7 / 1.2) / 2
    assert line[2:] == [f"{100 * x:.1f}" for x in (0.7, 0.5, of_means, of_sets)]


def test_sets_that_were_shifted_to_have_their_mean() -> None:
    rows = [
        row(eval_dataset=name, top1_test=x) for name, x in (("birds", 0.9), ("a", 0.6), ("b", 0.4))
    ]
    headers, (line,) = by_target(rows)
    assert headers[2:] == ["birds", "a", "b", "mean of the others"]
    assert line[-1] == "50.0"


def test_the_commands_say_it_too(home: Home, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("bee\n\ndoe\n")
    place = ("--dataset", "toys", "--home", home.root, "--select", "fixed", "--json")
    some = cacheclip("fit", "--method", "nearest-mean", "--shots", "2", "--classes", names, *place)
    assert json.loads(some.out)["n_classes"] == 2
    wrong = cacheclip("fit", "--method", "nearest-mean", "--classes", "bee,wasp", *place)
    assert (wrong.code, "there is no class 'wasp'" in wrong.err) == (2, True)
    asked = ("--methods", "linear-adapter", "--shots", "2", "--seeds", "1", "--set", "epochs=2")
    rows = json.loads(cacheclip("compare", "--base-to-new", *asked, *place).out)
    assert [own["classes"] for own in rows] == ["base", "new", "all"]
    listed = cacheclip("stats", "--classes", "base-to-new", "--home", home.root).out
    assert f"{100 * rows[1]['top1_test']:.1f}" in listed
