"""What lies beside a row: its curve, what it says of held-out pictures, on request all logits."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cacheclip
from cacheclip.answers import Answered, curve, predictions
from cacheclip.errors import UsageError
from cacheclip.heads.temperature import true_confidence
from cacheclip.results import LOG, Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from tests import makers

CHOSEN = Request(("tip-adapter",), (1, 2), (1,), select="fewshot-val")


def ran(home: Home, request: Request) -> tuple[list[Row], list[str], int]:
    """The rows, what was said, and how many were there already."""
    comparison = Comparison(request, home.find(), home)
    said = list(comparison.notices)
    for _ in comparison.run(notice=said.append):
        pass
    return comparison.rows, said, comparison.reused


def log_softmax(logits: NDArray[np.float16], temperature: float) -> NDArray[np.float64]:
    z = logits.astype(np.float64) / temperature
    z -= z.max(1, keepdims=True)
    found: NDArray[np.float64] = z - np.log(np.exp(z).sum(1, keepdims=True))
    return found


def assert_follows(answered: Answered, temperature: float) -> None:
    """What is kept of each picture is what its logits say."""
    assert answered.logits is not None and answered.raw_top_p is not None
    log_p = log_softmax(answered.logits, temperature)
    every = np.arange(len(log_p))
    np.testing.assert_allclose(answered.true_log_p, log_p[every, answered.label], atol=0.05)
    np.testing.assert_allclose(answered.top_p, np.exp(log_p.max(1)), atol=0.02)
    raw = np.exp(log_softmax(answered.logits, 1.0).max(1))
    np.testing.assert_allclose(answered.raw_top_p, raw, atol=0.05)
    assert (answered.true_rank == 0).tolist() == (answered.predicted == answered.label).tolist()


def test_the_curve_lies_beside_the_row_and_a_row_used_again_has_it(home: Home) -> None:
    made, _, _ = ran(home, CHOSEN)
    lines = [json.loads(line) for line in (home.root / LOG).read_text().splitlines()]
    assert [line["curve"] for line in lines] == [None, None]
    assert all(len(row.curve or ()) > 100 for row in made)
    assert [curve(home, row.row_id) for row in made] == [row.curve for row in made]
    again, said, reused = ran(home, CHOSEN)
    assert (again, said, reused) == (made, [], 2)


def test_a_row_whose_log_holds_the_curve_is_used_as_it_is(home: Home) -> None:
    made, _, _ = ran(home, CHOSEN)
    lines = [json.dumps(row.as_json()) for row in made]
    (home.root / LOG).write_text("\n".join([*lines, ""]))
    again, _, reused = ran(home, CHOSEN)
    assert (again, reused) == (made, 2)


@pytest.mark.parametrize("method", ["tip-adapter", "nearest-mean", "clip-adapter"])
def test_held_out_pictures_are_kept_apart_by_what_they_were_used_for(
    method: str, home: Home
) -> None:
    settings = {"epochs": 2, "alpha": [0.2, 0.6]} if method == "clip-adapter" else {}
    asked = Request((method,), (2,), (1,), select="fewshot-val", settings=settings, keep="logits")
    (row,), _, _ = ran(home, asked)
    found = predictions(home, row.row_id)
    T = row.temperature or 1.0
    assert_follows(found, T)
    if row.curve and len(row.curve) > 1:
        assert found.choice is not None
        assert len(found.choice.label) == row.n_val
        assert (found.choice.true_rank == 0).mean() == row.top1_val
        assert_follows(found.choice, T)
    else:
        assert found.choice is None
    assert (found.calibration is None) == (row.temperature is None)
    if (calibration := found.calibration) is not None:
        assert len(calibration.label) == row.n_calibration
        assert_follows(calibration, T)
        logits = torch.from_numpy(calibration.logits).float()[None]
        again = true_confidence(logits, torch.from_numpy(calibration.label.astype(np.int64)))
        assert float(again) == pytest.approx(T, rel=0.02)  # without a refit


def test_where_folds_of_the_support_chose_what_they_say_is_that_of_the_calibration(
    home: Home,
) -> None:
    asked = Request(("tip-adapter",), (4,), (1,), select="support-loo", keep="logits")
    (row,), _, _ = ran(home, asked)
    found = predictions(home, row.row_id)
    assert found.choice is None and found.calibration is not None
    assert len(found.calibration.label) == row.n_calibration == row.n_val
    assert (found.calibration.true_rank == 0).mean() == row.top1_val
    assert_follows(found.calibration, row.temperature or 1.0)
    assert ran(home, asked)[0] == [row]


def test_logits_are_kept_on_request_and_rows_without_them_are_made_again(home: Home) -> None:
    plain = Request(("tip-adapter",), (1, 2), (1,), select="fixed")
    kept = replace(plain, keep="logits")
    first, _, _ = ran(home, plain)
    assert predictions(home, first[0].row_id).logits is None
    rows, said, reused = ran(home, kept)
    assert (reused, said) == (0, ["2 rows made again: without their logits"])
    for row, old in zip(rows, first, strict=True):
        assert row.top1_test == old.top1_test
        found = predictions(home, row.row_id)
        assert found.logits is not None
        assert found.logits.shape == (row.n_test, row.n_classes)
        assert_follows(found, row.temperature or 1.0)
    assert ran(home, kept)[2] == 2
    assert ran(home, plain)[2] == 2  # more than was asked for is no lack


def test_logits_are_kept_from_the_command_line_and_from_python(home: Home) -> None:
    words = ("fit", "--method", "gda", "--shots", "2", "--select", "fixed", "--keep", "logits")
    done = makers.cacheclip(*words, "--home", home.root, "--json")
    assert done.code == 0, done.err
    by_command = predictions(home, json.loads(done.out)["row_id"])
    data = cacheclip.load("toys", home=home.root)
    asked: dict[str, Any] = {"shots": 2, "seeds": [1], "select": "fixed", "keep": "logits"}
    table = cacheclip.compare("gda", data, **asked, results=home.root / "own")
    by_python = predictions(home.root / "own", table.rows[-1].row_id)
    assert by_command.logits is not None and by_python.logits is not None
    np.testing.assert_array_equal(by_command.logits, by_python.logits)
    with pytest.raises(UsageError, match="no folder to keep logits in"):
        cacheclip.compare("gda", data, **asked)
    with pytest.raises(UsageError, match="keeps nothing"):
        cacheclip.compare("gda", data, **asked | {"keep": "all"}, results=home.root / "own")
