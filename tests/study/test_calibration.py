"""Temperatures: which pictures they are fitted on, and what they do to probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.answers import predictions
from cacheclip.bench.clip_like import clip_like
from cacheclip.bundle import Bundle
from cacheclip.engine import stack as engine
from cacheclip.exchange.import_npz import import_npz
from cacheclip.metrics import calibration_error
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study import calibration
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit
from cacheclip.study.fit_table import probabilities

METHODS = ("zero-shot", "nearest-mean", "linear-probe", "tip-adapter", "tip-adapter-f")


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("synthetic")
    clip_like(5).save(root / "set.npz")
    home = Home(root / "home")
    import_npz(root / "set.npz", home)
    return home


def rows(home: Home, select: str | None, shots: int = 4) -> dict[str, Row]:
    request = Request(METHODS, (shots,), (1,), select)
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return {row.method: row for row in comparison.rows}


@pytest.mark.parametrize(
    ("select", "unused"),
    [
        ("fixed", 80),
        ("fewshot-val", 40),  # four of eight a class chose
        ("full-val", 0),
        (None, 0),  # the default of arrays of one's own
    ],
)
def test_probabilities_come_true_on_pictures_that_chose_nothing(
    synthetic: Home, select: str | None, unused: int
) -> None:
    made = rows(synthetic, select)
    assert mean(row.ece_test or 0.0 for row in made.values()) <= 0.1
    for name, row in made.items():
        if name in ("zero-shot", "nearest-mean"):  # there was nothing to choose
            assert (row.calibrated_on, row.n_calibration) == (calibration.UNUSED, 80)
        elif unused:
            assert (row.calibrated_on, row.n_calibration) == (calibration.UNUSED, unused)
        else:
            assert row.calibrated_on in (
                calibration.HALVES,
                calibration.LEFT_OUT,
                f"{calibration.HALVES}; {calibration.LEFT_OUT}",
            )
        assert row.calibrated_within is not None
        assert row.calibrated_within <= 1 / row.n_calibration**0.5
        assert row.temperature
        assert row.ece_test is not None
        assert row.ece_test <= 0.2  # a share of 40 pictures is known to 0.15
        assert row.nll_test is not None
        assert row.nll_test_raw is not None
        assert row.nll_test <= row.nll_test_raw + 0.05


def test_without_validation_pictures_parts_of_the_support_are_left_out(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    home = make_home(tmp_path / "h", val=0)
    for name, row in rows(home, "fixed").items():
        if name in ("zero-shot", "tip-adapter-f"):  # four trainings for one: `fit` alone does that
            assert row.temperature is None
            continue
        assert (row.calibrated_on, row.n_calibration) == (calibration.LEFT_OUT, 16)
        assert row.temperature
    single = rows(home, None, shots=1)
    assert {row.temperature for row in single.values()} == {None}
    assert all("too few" in probabilities(row) for row in single.values())
    request = Request(("tip-adapter-f",), (4,), (1,), settings={"epochs": 2})
    fitted = fit(request, home.find(), home, tmp_path / "f.safetensors").row
    assert (fitted.calibrated_on, fitted.n_calibration) == (calibration.LEFT_OUT, 16)


def test_a_comparison_of_constants_trains_nothing_twice(
    tmp_path: Path, make_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def counting(method: Any, task: Any, seeds: Sequence[int], *rest: Any) -> Any:
        trained.append(len(seeds))
        return engine_fit(method, task, seeds, *rest)

    engine_fit = engine.fit
    monkeypatch.setattr(engine, "fit", counting)
    home = make_home(tmp_path / "h", val=0)
    request = Request(
        ("clip-adapter",), (4,), (1, 2, 3), "fixed", {"epochs": 1, "alpha": [0.2, 0.6]}
    )
    for _ in Comparison(request, home.find(), home).run():
        pass
    assert sum(trained) == 6


def test_a_bundle_carries_the_temperature_and_predictions_are_at_it(
    synthetic: Home, tmp_path: Path
) -> None:
    request = Request(("linear-probe",), (4,), (1,), "fixed")
    fitted = fit(request, synthetic.find(), synthetic, tmp_path / "b.safetensors")
    assert Bundle.read(tmp_path / "b.safetensors").temperature == fitted.row.temperature
    kept = predictions(synthetic, fitted.row.row_id)
    nll = -float(np.mean(kept.true_log_p.astype(np.float64)))
    assert nll == pytest.approx(fitted.row.nll_test, abs=1e-2)


def test_a_temperature_changes_no_answer_and_no_choice(synthetic: Home) -> None:
    before = rows(synthetic, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "LEAST", 10**9)
        request = Request(METHODS, (4,), (1,), None, on_existing="redo")
        made = Comparison(request, synthetic.find(), synthetic).run()
        without = {row.method: row for _, row in made}
    for name, row in before.items():
        same = without[name]
        assert same.temperature is None
        assert (same.hparams, same.top1_test) == (row.hparams, row.top1_test)
        assert same.ece_test == same.ece_test_raw == row.ece_test_raw


def test_the_calibration_error_of_a_true_forecaster_is_near_zero_and_of_a_boaster_is_not() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.rand(1, 4000, generator=g)
    right = torch.rand(1, 4000, generator=g) < p
    assert calibration_error(p, right)[0] < 0.03
    assert calibration_error(torch.ones(1, 4000), right)[0] == pytest.approx(0.5, abs=0.05)
    few = calibration_error(p[:, :60], right[:, :60])
    plain = torch.stack([(p[:, k::6] - right[:, k::6].float()).mean(1).abs() for k in range(6)])
    assert few[0] < float(plain.mean()) + 0.1


def test_full_val_reads_every_validation_picture_and_its_rows_are_its_own(home: Home) -> None:
    request = Request(("tip-adapter",), (1,), (1,), "full-val")
    ((_, row),) = Comparison(request, home.find(), home).run()
    assert row.n_val == 8
    ((_, few),) = Comparison(replace(request, select="fewshot-val"), home.find(), home).run()
    assert few.n_val == 4
    assert row.row_id != few.row_id
