"""A fit that fails or has no room is a failed cell, and moves no other row."""

from typing import Any

import pytest
import torch

from cacheclip.engine import memory, stack as engine
from cacheclip.methods.base import Method, Params
from cacheclip.methods.tip_adapter import TipAdapter
from cacheclip.store.home import Home
from cacheclip.study import evidence
from cacheclip.study.compare import Comparison
from tests.study.asking import compare, request


def with_nan(params: Params, variant: int) -> Params:
    """The params with one variant spoilt."""
    return {
        name: x.clone().index_fill(0, torch.tensor([variant], device=x.device), torch.nan)
        if x.is_floating_point()
        else x
        for name, x in params.items()
    }


def test_a_failed_cell_is_a_row_and_the_others_go_on(home: Home) -> None:
    comparison = Comparison(
        request(("zero-shot", "nearest-mean"), (4, 16), (1,), None, {}), home.find(), home
    )
    rows = [row for _, row in comparison.run()]
    assert [(row.method, row.shots, row.error is None) for row in rows] == [
        ("zero-shot", 0, True),
        ("nearest-mean", 4, True),
        ("nearest-mean", 16, False),
    ]
    assert "fewer than 16 training pictures" in str(rows[2].error)
    assert rows[2].top1_test is None


def test_a_fit_that_is_not_finite_is_a_failed_cell_beside_good_ones(home: Home) -> None:
    rows = compare(
        home, request(("clip-adapter",), (4,), (1,), "fixed", {"epochs": 9, "lr": [1e-3, 1e38]})
    )
    assert [row.error is None for row in rows] == [True, False]
    assert "not finite" in str(rows[1].error)


def test_a_candidate_that_is_not_finite_neither_wins_nor_pushes_another_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.fit

    def spoiling(*arguments: Any) -> Any:
        for first, last, params in real(*arguments):
            whole = last - first > 1  # a fit for calibration has one variant
            yield first, last, with_nan(params, 1) if whole else params

    monkeypatch.setattr(engine, "fit", spoiling)
    own = request(("tip-adapter",), (4,), (1,), None, {"alpha": [0.5, 1, 2], "beta": 5.5})
    (row,) = compare(home, own)
    assert row.error is None
    assert row.curve
    assert [e["top1_val"] is None for e in row.curve] == [False, True, False]
    assert row.hparams["alpha"] != 1


def test_a_search_leaves_out_what_is_not_finite(home: Home) -> None:
    settings = {"lr": [1e-3, 1e30], "epochs": 2}
    for pinned in ({}, {"alpha": 1}):
        own = request(("tip-adapter-f",), (4,), (1, 2), None, settings | pinned)
        for row in compare(home, own):
            assert row.error is None
            assert row.hparams["lr"] == 1e-3
            assert row.curve
            dead = [e for e in row.curve if e["hparams"]["lr"] == 1e30]
            assert [e["top1_val"] for e in dead] == [None]
            assert len(row.curve) == (201 if pinned else 202) + 1


def test_the_choice_does_not_depend_on_what_fits_into_memory(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = request(("tip-adapter", "clip-adapter"), (4,), (1, 2))
    whole = compare(home, own)
    monkeypatch.setattr(memory, "CPU_BYTES", 1)
    for row, same in zip(compare(home, own), whole, strict=True):
        assert row.hparams == same.hparams
        assert row.curve
        assert same.curve
        for entry, twin in zip(row.curve, same.curve, strict=True):
            assert (entry["hparams"], entry["top1_val"]) == (twin["hparams"], twin["top1_val"])
            assert entry["nll_val"] == pytest.approx(twin["nll_val"], abs=1e-4)
        assert row.top1_test == same.top1_test


def test_running_out_of_memory_fails_that_method_and_no_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(TipAdapter, "solve", full)
    rows = compare(home, request(("tip-adapter", "nearest-mean"), (4,), (1,), None, {}))
    assert [(row.method, row.error is None) for row in rows] == [
        ("tip-adapter", False),
        ("nearest-mean", True),
    ]
    assert "out of memory" in str(rows[0].error)


def test_running_out_of_memory_at_the_test_pictures_fails_that_method_and_no_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(TipAdapter, "logits", full)
    own = request(("tip-adapter", "nearest-mean"), (4,), (1, 2), "fixed", {})
    rows = compare(home, own)
    assert [(row.method, row.error is None) for row in rows] == [
        *[("tip-adapter", False)] * 2,
        *[("nearest-mean", True)] * 2,
    ]
    assert "out of memory" in str(rows[0].error)
    assert rows[0].temperature is None


def test_a_narrow_memory_validates_a_few_candidates_at_a_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of all candidates on all validation pictures never lie there at once."""
    own = request(("linear-probe",), (4,), (1,), "full-val", {})
    (_, wide), *_ = Comparison(own, home.find(), home).run()
    monkeypatch.setattr(evidence, "COPIES", 2**40)
    sizes = []
    in_parts = engine.logits_in_parts

    def watching(method: Method, params: Params, *rest: Any) -> Any:
        sizes.append(len(next(iter(params.values()))))
        return in_parts(method, params, *rest)

    monkeypatch.setattr(engine, "logits_in_parts", watching)
    (_, narrow), *_ = Comparison(own, home.find(), home).run()
    assert len(sizes) >= len(wide.curve or ()) > 1
    assert set(sizes) == {1}
    assert (narrow.hparams, narrow.top1_val, narrow.top1_test) == (
        wide.hparams,
        wide.top1_val,
        wide.top1_test,
    )
