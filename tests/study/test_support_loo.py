"""`support-loo`: folds of the support choose, and what they chose learns from all of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.draws import Draw
from cacheclip.errors import UsageError
from cacheclip.heads.temperature import label_log_p
from cacheclip.methods import base as methods
from cacheclip.methods.base import Method, Trained
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.folds import folds, left_out
from cacheclip.study.heads import fit, held_out, served
from cacheclip.study.plan import Variant
from cacheclip.study.race import Point, Race
from cacheclip.study.run import Outcome
from tests.makers import build_home

SEARCHING = ("gda", "proker", "tip-adapter", "tip-adapter-f", "ape", "cross-modal")


def made(home: Home, method: str, shots: Any = 4, **request: Any) -> tuple[Outcome, Row]:
    asked = Request((method,), (shots,), (1,), "support-loo", **request)
    ((outcome, row),) = Comparison(asked, home.find(), home).run()
    return outcome, row


def draw_of(labels: Sequence[int]) -> Draw:
    rows = tuple(range(len(labels)))
    return Draw(1, 1, rows, tuple(labels), tuple(map(str, rows)), (), (), ())


@pytest.mark.parametrize("even", [True, False])
def test_folds_leave_each_picture_out_once(even: bool) -> None:
    draw = draw_of([0] * 5 + [1] * 7)
    cut = folds(draw, even=even)
    left = [row for fold in cut for row in left_out(fold, draw)[0]]
    assert len(cut) == 4
    assert len(left) == len(set(left))
    if even:
        assert len({len(fold.support) for fold in cut}) == 1
        assert len(left) == 8
    else:
        assert set(left) == set(draw.support)


def test_one_picture_of_a_class_leaves_no_folds() -> None:
    assert folds(draw_of([0, 1, 1, 1]), even=True) == ()


def test_no_validation_picture_is_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def pictures(data: SetData, method: Method, split: str, *args: Any) -> Any:
        assert split == "train"
        return read(data, method, split, *args)

    read = SetData.pictures
    monkeypatch.setattr(SetData, "pictures", pictures)
    for method in ("linear-probe", "tip-adapter"):
        _, row = made(home, method)
        assert {store.partition("/")[0] for store in row.stores} <= {"train", "test", "text"}
        assert row.n_val == row.n_train == row.n_calibration


def test_where_nothing_can_be_left_out_the_constants_stand_and_the_row_says_so(home: Home) -> None:
    for method in ("tip-adapter", "linear-probe"):
        _, row = made(home, method, 1)
        fixed = Comparison(Request((method,), (1,), (1,), "fixed"), home.find(), home)
        ((_, constants),) = fixed.run()
        assert row.hparams == constants.hparams
        assert row.top1_test == constants.top1_test
        assert row.chosen_on is not None
        assert row.chosen_on.startswith("nothing")
        assert row.n_val == 0


def test_of_values_that_were_given_the_nearest_to_zero_shot_stands_alone(home: Home) -> None:
    _, row = made(home, "tip-adapter", 1, settings={"alpha": (4.0, 3.0)})
    assert row.hparams == {"alpha": 3.0, "beta": 5.5}
    _, row = made(home, "tip-adapter", 1, settings={"alpha": (4.0, 1.0)})
    assert row.hparams == {"alpha": 1.0, "beta": 5.5}  # the constant


def test_a_class_of_one_picture_keeps_the_constants(tmp_path: Path) -> None:
    home = build_home(tmp_path / "home", train=(1, 4, 4, 4))
    _, row = made(home, "tip-adapter", 4, fewer="keep", settings={"alpha": ("search",)})
    assert row.hparams == {"alpha": 1.0, "beta": 5.5}


@pytest.mark.parametrize("method", ["linear-probe", "tip-adapter"])
def test_the_winner_learns_from_all_of_the_support(home: Home, method: str) -> None:
    """What was chosen, given as constants, is the same classifier."""
    _, row = made(home, method)
    given = {name: (value,) for name, value in row.hparams.items()}
    fixed = Request((method,), (4,), (1,), "fixed", given)
    ((_, same),) = Comparison(fixed, home.find(), home).run()
    assert row.top1_test == same.top1_test


@pytest.mark.parametrize("method", SEARCHING)
def test_a_search_on_folds_is_what_each_fold_answers(home: Home, method: str) -> None:
    """Every point's log probabilities are those of the folds' own logits at one temperature."""
    trained = issubclass(methods.get(method), Trained)
    outcome, _ = made(home, method, settings={"epochs": (2,)} if trained else {})
    race = outcome.race
    found = [p for p in race.points if p.log_p.isfinite().all()][-3:]
    assert found
    for point in found:
        hits, log_p = by_hand(race, point, home)
        assert hits == point.hits
        np.testing.assert_allclose(point.log_p, log_p, atol=2e-3)


def by_hand(race: Race, point: Point, home: Home) -> tuple[int, np.ndarray[Any, Any]]:
    """Each fold fitted by itself, its answers joined and brought to the likeliest temperature."""
    data = SetData(home.find(), torch.device("cpu"), 2**28)
    asked, draw = point.variant.settings, race.cell.draw
    method = race.method.of(asked)
    assert isinstance(draw, Draw)
    logits, labels = [], []
    for fold in folds(draw, even=True):
        (heads,) = fit(method, [Variant(race.cell, asked, fold)], data)
        rows, own = left_out(fold, draw)
        query, known = held_out(method, "train", rows, own, data)
        logits.append(served(heads.settled(point.settings), data).answers(query, 2**28))
        labels.append(known)
    joined, known = torch.cat(logits, 1), torch.cat(labels)
    return int((joined.argmax(-1) == known).sum()), label_log_p(joined, known)[0].numpy()


def test_folds_that_cannot_tell_leave_it_at_zero_shot(home: Home) -> None:
    """A fold of one picture a class has no covariance: there GDA's alpha changes nothing."""
    _, row = made(home, "gda", 2)
    assert row.hparams["alpha"] == 0.0
    assert row.top1_test == row.zero_shot_test


def test_narrow_memory_changes_no_choice(home: Home) -> None:
    """One variant at a time: the folds of a candidate come in pieces."""
    (_, wide), (_, narrow) = (
        made(home, "linear-probe", max_memory=memory, on_existing="redo") for memory in (None, 1)
    )
    assert narrow.hparams == wide.hparams
    assert narrow.top1_val == wide.top1_val
    assert narrow.top1_test == wide.top1_test


def test_no_fold_says_when_to_stop(home: Home) -> None:
    _, row = made(home, "lp-pp", settings={"epochs": (2,)})
    assert "stop" not in row.hparams
    with pytest.raises(UsageError, match="stop"):
        made(home, "lp-pp", settings={"stop": ("search",)})


def test_a_transductive_choice_is_made_on_folds_too(home: Home) -> None:
    _, row = made(home, "transclip-fs")
    assert row.error is None
    assert row.n_val == row.n_train


def test_a_cell_without_a_draw_is_a_failed_row(home: Home) -> None:
    _, row = made(home, "tip-adapter", 7)
    assert row.error is not None
    assert "fewer than 7" in row.error
