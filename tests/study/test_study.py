"""Stage two on a small home: sealed labels, chosen settings, rows and bundles."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cacheclip.bundle import Bundle
from cacheclip.errors import InputError, UsageError
from cacheclip.results import LOG, Row
from cacheclip.store.home import Home, Labels
from cacheclip.study.compare import DEFAULT_METHODS, Comparison, Request
from cacheclip.study.fit import fit

QUICK = ("clip-adapter.epochs=3",)


def compare(home: Home, request: Request) -> list[Row]:
    comparison = Comparison(request, home.find(), home)
    return [row for _, row in comparison.run()]


def request(
    methods: tuple[str, ...] = DEFAULT_METHODS,
    shots: tuple[int, ...] = (1, 4),
    seeds: tuple[int, ...] = (1, 2),
    select: str | None = None,
    set_: tuple[str, ...] = QUICK,
) -> Request:
    return Request(methods, shots, seeds, select, set_)


def permuted(labels: Labels) -> Labels:
    test = labels.splits["test"]
    moved = [(label + 1) % len(labels.classnames) for label in test.labels]
    splits = dict(labels.splits) | {"test": replace(test, labels=moved)}
    return Labels(labels.dataset, labels.classnames, splits)


@pytest.mark.parametrize("method", DEFAULT_METHODS)
def test_test_labels_change_the_score_and_nothing_else(
    method: str, home: Home, tmp_path: Path
) -> None:
    """The seal: choice, bundle bytes and predictions are the same whatever the test labels say."""
    own = request((method,), (4,), (1,), set_=QUICK if method == "clip-adapter" else ())

    def run(out: Path) -> tuple[Row, bytes]:
        fitted = fit(own, home.find(), home, out)
        assert fitted.bundle == out
        return fitted.row, out.read_bytes()

    before, bundle = run(tmp_path / "a")
    predicted = np.load(home.root / "predictions" / f"{before.row_id}.npz")["predicted"]
    home.write_labels(permuted(home.labels("toys")))
    after, bundle_after = run(tmp_path / "b")
    predicted_after = np.load(home.root / "predictions" / f"{after.row_id}.npz")["predicted"]
    assert after.hparams == before.hparams
    assert after.curve == before.curve
    assert bundle_after == bundle
    assert np.array_equal(predicted, predicted_after)
    assert after.top1_test != before.top1_test
    assert after.row_id != before.row_id  # other labels, another result


def test_a_bundle_names_nothing_of_the_test_split(home: Home, tmp_path: Path) -> None:
    fitted = fit(request(("tip-adapter",), (4,), (1,), set_=()), home.find(), home)
    assert fitted.bundle
    bundle = Bundle.read(fitted.bundle)
    assert set(bundle.provenance["stores"]) == {"train/image", "val/image", "text"}
    assert "test" not in json.dumps(bundle.provenance)


def test_the_table_is_the_full_grid_and_the_log_has_it(home: Home) -> None:
    rows = compare(home, request())
    assert [(r.method, r.shots, r.seed) for r in rows if r.shots == 0] == [("zero-shot", 0, None)]
    trained = [r for r in rows if r.shots]
    assert len(trained) == 4 * 2 * 2
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
    both = request(("clip-adapter",), (4,), (1, 2), "fixed", ("epochs=3", "alpha=0.2,0.6"))
    together = compare(home, both)
    for row in together:
        alone = replace(
            both, seeds=(row.seed or 0,), set=("epochs=3", f"alpha={row.hparams['alpha']}")
        )
        (same,) = compare(home, alone)
        assert same.top1_test == row.top1_test
        assert same.row_id == row.row_id


def test_fixed_reads_no_validation_image_and_fewshot_val_keeps_the_curve(home: Home) -> None:
    one = request(("tip-adapter",), (4,), (1,), "fixed", ())
    (fixed,) = compare(home, one)
    assert (fixed.n_val, fixed.top1_val, fixed.curve) == (0, None, None)
    assert fixed.hparams == {"alpha": 1.0, "beta": 5.5}
    (chosen,) = compare(home, replace(one, select="fewshot-val"))
    assert chosen.curve
    assert len(chosen.curve) == 80
    assert chosen.top1_val == max(entry["top1_val"] for entry in chosen.curve)
    best = [e["hparams"] for e in chosen.curve if e["top1_val"] == chosen.top1_val]
    assert chosen.hparams == best[0]


def test_the_choice_spans_stacks(home: Home) -> None:
    """Static settings part the stacks; the candidates still race each other in one row."""
    (row,) = compare(
        home, request(("clip-adapter",), (4,), (1,), None, ("epochs=1,2,3", "alpha=0.2,0.8"))
    )
    assert row.curve
    assert [(e["hparams"]["epochs"], e["hparams"]["alpha"]) for e in row.curve] == [
        (e, a) for a in (0.2, 0.8) for e in (1, 2, 3)
    ]
    best = [e["hparams"] for e in row.curve if e["top1_val"] == row.top1_val]
    assert row.hparams == best[0]


def test_without_validation_images_the_constants_are_taken(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    home = make_home(tmp_path / "h", val=0)
    (row,) = compare(home, request(("tip-adapter",), (4,), (1,), None, ()))
    assert row.select == "fixed"
    with pytest.raises(UsageError, match="validation image of every class"):
        compare(home, request(("tip-adapter",), (4,), (1,), "fewshot-val", ()))


def test_a_failed_cell_is_a_row_and_the_others_go_on(home: Home) -> None:
    comparison = Comparison(
        request(("zero-shot", "nearest-mean"), (4, 16), (1,), None, ()), home.find(), home
    )
    rows = [row for _, row in comparison.run()]
    assert [(row.method, row.shots, row.error is None) for row in rows] == [
        ("zero-shot", 0, True),
        ("nearest-mean", 4, True),
        ("nearest-mean", 16, False),
    ]
    assert "fewer than 16 training images" in str(rows[2].error)
    assert rows[2].top1_test is None
    assert len(comparison.failures) == 1


def test_a_fit_that_is_not_finite_is_a_failed_cell_beside_good_ones(home: Home) -> None:
    rows = compare(
        home, request(("clip-adapter",), (4,), (1,), "fixed", ("epochs=9", "lr=1e-3,1e38"))
    )
    assert [row.error is None for row in rows] == [True, False]
    assert "not finite" in str(rows[1].error)


def test_fit_refuses_several_rows_and_names_compare(home: Home) -> None:
    several = request(("clip-adapter",), (4,), (1,), "fixed", ("alpha=0.2,0.4",))
    with pytest.raises(UsageError, match="cacheclip compare"):
        fit(several, home.find(), home)


def test_fit_with_too_few_images_offers_what_is_possible(home: Home) -> None:
    with pytest.raises(InputError, match="--shots 6 or fewer"):
        fit(request(("nearest-mean",), (7,), (1,), None, ()), home.find(), home)


def test_pictures_that_failed_are_left_out_and_counted(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    home = make_home(tmp_path / "h", failed=3)
    (row,) = compare(home, request(("zero-shot",), (1,), (1,), None, ()))
    assert (row.n_test, row.n_failed) == (37, 3)
