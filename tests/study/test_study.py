"""Stage two on a small home: sealed labels, chosen settings, rows and bundles."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.bundle import Bundle
from cacheclip.errors import InputError, UsageError
from cacheclip.methods import base as methods
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.results import LOG, Row
from cacheclip.select import base as policies
from cacheclip.store.home import Home, Labels
from cacheclip.study import calibration, run, score
from cacheclip.study.compare import DEFAULT_METHODS, Comparison
from cacheclip.study.data import SetData
from cacheclip.study.fit import fit
from cacheclip.study.policy import policy_for
from cacheclip.study.settings import Given
from tests.study.asking import QUICK, compare, predictions, request


def permuted(labels: Labels) -> Labels:
    test = labels.splits["test"]
    moved = [(label + 1) % len(labels.classnames) for label in test.labels]
    splits = dict(labels.splits) | {"test": replace(test, labels=moved)}
    return Labels(labels.dataset, labels.classnames, splits)


class Sealed(list[int]):
    """Labels that nobody may look at yet."""

    opened = False

    def __getitem__(self, key: Any) -> Any:
        assert Sealed.opened, "test labels were read before the choice was settled"
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        assert Sealed.opened, "test labels were read before the choice was settled"
        return super().__iter__()


@pytest.mark.parametrize("select", [None, *policies.names()])
def test_test_labels_are_opened_by_score_and_nothing_before(
    select: str | None, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under every policy but the oracle, which says what it is."""
    features = home.find()
    test = features.labels.splits["test"]
    sealed = replace(test, labels=Sealed(test.labels))
    vars(sealed)["unlabelled"] = test.unlabelled  # which pictures test nothing, known before
    splits = dict(features.labels.splits) | {"test": sealed}
    labels = Labels(features.dataset, features.labels.classnames, splits)
    monkeypatch.setattr(Labels, "digest", "known before")  # it hashes all labels, and chooses none
    monkeypatch.setattr(Sealed, "opened", False)
    real = score.score

    def opening(*arguments: Any, **kept: Any) -> Any:
        Sealed.opened = True
        try:
            return real(*arguments, **kept)
        finally:
            Sealed.opened = False

    monkeypatch.setattr(run, "score", opening)
    asked = (
        request() if select is None else request(("tip-adapter", "proker"), (4,), (1,), select, {})
    )
    comparison = Comparison(asked, replace(features, labels=labels), home)
    if select == "test-oracle":
        with pytest.raises((AssertionError, ValueError)):  # it cannot be made a tensor either
            list(comparison.run())
    else:
        assert all(row.top1_test is not None for _, row in comparison.run())


@pytest.mark.parametrize("method", DEFAULT_METHODS)
def test_test_labels_change_the_score_and_nothing_else(
    method: str, home: Home, tmp_path: Path
) -> None:
    """The seal: choice, bundle bytes and predictions are the same whatever the test labels say."""
    own = request((method,), (4,), (1,), settings=QUICK if method == "clip-adapter" else {})

    def once(out: Path) -> tuple[Row, bytes]:
        fitted = fit(own, home.find(), home, out)
        assert fitted.bundle == out
        return fitted.row, out.read_bytes()

    before, bundle = once(tmp_path / "a")
    predicted = predictions(home, before)
    home.write_labels(permuted(home.labels("toys")))
    after, bundle_after = once(tmp_path / "b")
    assert after.hparams == before.hparams
    assert after.curve == before.curve
    assert bundle_after == bundle
    for name in ("predicted", "top_p"):
        assert np.array_equal(predictions(home, after)[name], predicted[name])
    assert after.top1_test != before.top1_test
    assert after.row_id != before.row_id  # other labels, another result


def test_a_bundle_names_nothing_of_the_test_split(home: Home, tmp_path: Path) -> None:
    fitted = fit(request(("tip-adapter",), (4,), (1,), settings={}), home.find(), home)
    assert fitted.bundle
    bundle = Bundle.read(fitted.bundle)
    assert set(bundle.provenance["stores"]) == {"train/image", "val/image", "text"}
    assert "test" not in json.dumps(bundle.provenance)


def test_the_table_is_the_full_grid_and_the_log_has_it(home: Home) -> None:
    rows = compare(home, request())
    assert [(r.method, r.shots, r.seed) for r in rows if r.shots == 0] == [("zero-shot", 0, None)]
    trained = [r for r in rows if r.shots]
    assert len(trained) == (len(DEFAULT_METHODS) - 1) * 2 * 2  # all but zero-shot learn
    logged = [json.loads(line) for line in (home.root / LOG).read_text().splitlines()]
    assert [entry["row_id"] for entry in logged] == [row.row_id for row in rows]
    assert len({row.row_id for row in rows}) == len(rows)
    for row in trained:
        assert row.n_train == 4 * row.shots
        assert row.n_val == 4 * min(row.shots, 2)
        assert (home.root / "draws" / f"{row.draw_id}.json").exists()


def test_methods_share_the_draw_of_a_seed(home: Home) -> None:
    rows = [row for row in compare(home, request()) if row.shots == 4 and row.seed == 1]
    assert len({row.draw_id for row in rows}) == 1


def test_a_run_in_a_stack_equals_the_run_alone(home: Home) -> None:
    both = request(("clip-adapter",), (4,), (1, 2), "fixed", {"epochs": 3, "alpha": [0.2, 0.6]})
    together = compare(home, both)
    for row in together:
        alone = replace(
            both, seeds=(row.seed or 0,), settings={"epochs": 3, "alpha": row.hparams["alpha"]}
        )
        (same,) = compare(home, alone)
        assert same.top1_test == row.top1_test
        assert same.row_id == row.row_id


def test_fixed_reads_no_validation_image_and_fewshot_val_keeps_the_curve(home: Home) -> None:
    one = request(("tip-adapter",), (4,), (1,), "fixed", {})
    (fixed,) = compare(home, one)
    assert (fixed.n_val, fixed.top1_val, fixed.curve) == (0, None, None)
    assert fixed.hparams == {"alpha": 1.0, "beta": 5.5}
    grid = {"alpha": [0.5, 1, 2, 8], "beta": [1, 5.5, 20]}
    (chosen,) = compare(home, replace(one, select="fewshot-val", settings=grid))
    assert chosen.curve
    assert len(chosen.curve) == 12
    assert_the_choice_follows_from_the_curve(chosen)


def assert_the_choice_follows_from_the_curve(row: Row) -> None:
    """It is the constants or the likeliest point, and its accuracy is that point's."""
    assert row.curve
    judged = [e for e in row.curve if e["nll_val"] is not None]
    assert judged
    (own,) = {e["top1_val"]: e for e in judged if e["hparams"] == row.hparams}.values()
    assert own["top1_val"] == row.top1_val
    likeliest = min(e["nll_val"] for e in judged)
    constant = {"alpha": 1.0, "beta": 5.5}
    assert own["nll_val"] == likeliest or all(
        row.hparams[name] in (value, *(e["hparams"][name] for e in judged[:1]))
        for name, value in constant.items()
    )


@pytest.mark.parametrize(("pinned", "points"), [({}, 202), ({"beta": 5.5}, 3), ({"alpha": 2}, 201)])
def test_a_search_is_one_row_with_every_point_it_tried(
    pinned: Given, points: int, home: Home
) -> None:
    own = request(("tip-adapter",), (4,), (1, 2), None, pinned)
    for row in compare(home, own):
        assert row.curve
        assert len(row.curve) == points
        assert_the_choice_follows_from_the_curve(row)
        again = replace(own, select="fixed", settings=row.hparams)
        same = next(r for r in compare(home, again) if r.seed == row.seed)
        assert same.top1_test == row.top1_test  # the numbers found are the classifier's


def test_the_bundle_holds_what_the_search_found(home: Home, tmp_path: Path) -> None:
    fitted = fit(request(("tip-adapter",), (4,), (1,), None, {}), home.find(), home)
    assert fitted.bundle
    bundle = Bundle.read(fitted.bundle)
    assert bundle.hparams == fitted.row.hparams
    assert float(bundle.head["alpha"]) == pytest.approx(fitted.row.hparams["alpha"])


def test_a_search_without_validation_images_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="needs validation pictures"):
        compare(home, request(("tip-adapter",), (4,), (1,), "fixed", {"alpha": "search"}))


def test_the_choice_spans_stacks(home: Home) -> None:
    """Static settings part the stacks; the candidates still race each other in one row."""
    (row,) = compare(
        home,
        request(("clip-adapter",), (4,), (1,), None, {"epochs": [1, 2, 3], "alpha": [0.2, 0.8]}),
    )
    assert row.curve
    assert [(e["hparams"]["epochs"], e["hparams"]["alpha"]) for e in row.curve] == [
        (e, a) for a in (0.2, 0.8) for e in (1, 2, 3)
    ]
    likeliest = min(row.curve, key=lambda e: float(e["nll_val"]))
    constants = methods.get("clip-adapter").fixed(4, 50.0)
    assert row.hparams in (likeliest["hparams"], *(e["hparams"] for e in row.curve[:1]))
    assert all(e["hparams"].keys() == constants.keys() for e in row.curve)


def test_without_validation_images_folds_of_the_support_choose(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    home = make_home(tmp_path / "h", val=0)
    (row,) = compare(home, request(("tip-adapter",), (4,), (1,), None, {}))
    assert row.select == "support-loo"
    with pytest.raises(UsageError, match="validation pictures of every class") as caught:
        compare(home, request(("tip-adapter",), (4,), (1,), "fewshot-val", {}))
    assert caught.value.fix == "use --select support-loo"
    own = replace(home.find(), dataset="folder/toys")
    with pytest.raises(UsageError) as caught:
        policy_for("full-val", SetData(own, torch.device("cpu"), 10**9))
    assert (
        "use --select support-loo; or put pictures of each class into val/CLASS" in caught.value.fix
    )
    assert "then: cacheclip extract --dataset" in caught.value.fix


def test_what_a_row_reads_does_not_depend_on_its_neighbours(home: Home) -> None:
    def stores(*methods: str) -> dict[str, str]:
        rows = compare(home, request(methods, (4,), (1,), None, {}))
        return next(row.stores for row in rows if row.method == "nearest-mean")

    assert stores("nearest-mean") == stores("zero-shot", "nearest-mean", "tip-adapter")
    assert set(stores("nearest-mean")) == {"train/image", "val/image", "test/image"}


def test_a_place_that_cannot_hold_a_file_is_refused_before_the_fit(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "b", tmp_path):
        with pytest.raises(InputError, match="cannot write there"):
            fit(request(("nearest-mean",), (1,), (1,), None, {}), home.find(), home, out)
    assert not (home.root / LOG).exists()


def test_fit_refuses_several_rows_and_names_compare(home: Home) -> None:
    several = request(("clip-adapter",), (4,), (1,), "fixed", {"alpha": [0.2, 0.4]})
    with pytest.raises(UsageError, match="cacheclip compare"):
        fit(several, home.find(), home)


def test_fit_with_too_few_images_offers_what_is_possible(home: Home) -> None:
    with pytest.raises(InputError, match="--shots 6 or fewer"):
        fit(request(("nearest-mean",), (7,), (1,), None, {}), home.find(), home)


def test_pictures_that_failed_are_left_out_and_counted(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    home = make_home(tmp_path / "h", failed=3)
    (row,) = compare(home, request(("zero-shot",), (1,), (1,), None, {}))
    assert (row.n_test, row.n_failed) == (37, 3)


def test_a_row_names_its_recipe_where_the_method_has_several(home: Home) -> None:
    asked = replace(request(("tip-adapter", "clip-adapter"), (4,), (1,)), recipe="as-paper")
    by_paper = {row.method: row for row in compare(home, asked)}
    by_code = {row.method: row for row in compare(home, replace(asked, recipe=None))}
    assert by_paper["tip-adapter"].recipe is None
    assert by_paper["tip-adapter"].row_id == by_code["tip-adapter"].row_id
    assert by_code["clip-adapter"].recipe == "as-code"
    assert by_paper["clip-adapter"].recipe == "as-paper"
    assert by_paper["clip-adapter"].hparams["optimizer"] == "adam"
    assert by_paper["clip-adapter"].row_id != by_code["clip-adapter"].row_id


def test_a_bundle_of_both_branches_with_learned_ratios_answers_as_its_row(home: Home) -> None:
    own = {"branch": "both", "alpha": "learned"}
    fitted = fit(request(("clip-adapter",), (4,), (1,), settings=QUICK | own), home.find(), home)
    assert fitted.bundle
    assert fitted.row.hparams["alpha"] == "learned"
    bundle = Bundle.read(fitted.bundle)
    assert {"shift", "text_shift", "text_down", "text_up"} < set(bundle.head)
    data = SetData(home.find(), torch.device("cpu"), 10**9)
    method = ClipAdapter(**bundle.static)
    head = {name: torch.from_numpy(x)[None] for name, x in bundle.head.items()}
    predicted = method.logits(head, data.test_query(method))[0].argmax(-1)
    assert np.array_equal(predicted.numpy(), predictions(home, fitted.row)["predicted"])


def test_held_out_pictures_say_when_to_stop_and_are_not_those_of_its_temperature(
    home: Home,
) -> None:
    settings = {"lr": 0.5, "epochs": 30, "alpha": 0.6, "schedule": "constant"}
    last, stopped = (
        compare(home, request(("clip-adapter",), (4,), (1, 2), None, settings | {"stop": word}))
        for word in ("last", "search")
    )
    for one, other in zip(last, stopped, strict=True):
        assert one.error is other.error is None
        assert "stop" not in one.hparams
        assert other.hparams["stop"] == "search"
        assert one.hparams == {k: v for k, v in other.hparams.items() if k != "stop"}
        assert one.draw_id == other.draw_id
        assert other.calibrated_on == calibration.LEFT_OUT
        assert other.n_val > 0
    assert [row.nll_test_raw for row in last] != [row.nll_test_raw for row in stopped]


def test_nothing_stops_by_pictures_that_no_policy_holds_out(home: Home) -> None:
    asked = request(("clip-adapter",), (4,), (1,), "fixed", {"stop": "search"})
    with pytest.raises(UsageError, match="cannot search its stop"):
        compare(home, asked)
