"""What `fit --explain-choice` says, of races whose ends are known."""

import json

import torch

from cacheclip.methods.base import Settings
from cacheclip.methods.kernel_logistic import KernelLogistic
from cacheclip.results import Row
from cacheclip.select import base as policies
from cacheclip.study.choice import (
    CHOSEN,
    CONSTANTS,
    FIRST,
    LIKELIEST,
    NOTHING,
    ZERO_SHOT,
    explained,
    sentences,
    title,
)
from cacheclip.study.plan import Cell, Variant
from cacheclip.study.race import Point, Race
from tests.makers import ROW as ANY

N = 20
ROW = Row(**(ANY | {"zero_shot_test": 0.459, "chosen_on": None}))


def race(log_p: dict[float, float], spread: float) -> Race:
    """C -> mean log probability; pictures differ by a spread from one C to the next."""
    constant: Settings = {"C": 1.0, "beta": 1.66}
    cell = Cell(1, ({**constant, "C": "search"},), constant)
    own = Race(KernelLogistic, policies.get("fewshot-val"), cell)
    (variant,) = (Variant(cell, settings, None) for settings in cell.candidates)
    cell.__dict__["variants"] = (variant,)
    wave = torch.linspace(-spread, spread, N)
    own.points = [
        Point(variant, {**constant, "C": C}, hits=10 + k, log_p=mean + k * wave)
        for k, (C, mean) in enumerate(log_p.items())
    ]
    own.front = own.ranking.best(own.policy)
    return own


def test_a_clear_winner_is_told_with_what_it_gains_over_the_start() -> None:
    choice = explained(race({0.0: -2.0, 1.0: -1.0, 10.0: -0.5}, 0.1))
    assert choice is not None
    assert choice.start == CONSTANTS
    assert [one.marks for one in choice.tried] == [(ZERO_SHOT,), (CONSTANTS,), (CHOSEN, LIKELIEST)]
    assert [one.settings for one in choice.tried] == [{"C": 0.0}, {"C": 1.0}, {"C": 10.0}]
    gain = choice.tried[2].gain
    assert gain is not None
    assert abs(gain[0] - 0.5) < 1e-6
    assert [one.plateau for one in choice.tried] == [False, False, True]
    said = list(sentences(choice, ROW))
    assert "C=10: likelier than constants by 0.500 ±" in said[0]
    assert "1 of 3 settings" in said[1]
    assert said[2] == "zero-shot: 50.0 % of these pictures, 45.9 % of the test ones"


def test_the_start_stays_where_nothing_beats_it_by_a_standard_error() -> None:
    choice = explained(race({0.0: -2.0, 1.0: -1.0, 10.0: -0.99}, 3.0))
    assert choice is not None
    assert [one.marks for one in choice.tried][1:] == [(CHOSEN, CONSTANTS), (LIKELIEST,)]
    assert [one.plateau for one in choice.tried][1:] == [True, True]
    assert "which nothing beats" in next(sentences(choice, ROW))


def test_zero_shot_is_the_start_where_it_is_likelier() -> None:
    choice = explained(race({0.0: -0.5, 1.0: -1.0, 10.0: -2.0}, 0.1))
    assert choice is not None
    assert choice.start == ZERO_SHOT
    assert choice.tried[0].marks == (CHOSEN, ZERO_SHOT, LIKELIEST)


def test_one_setting_is_no_choice() -> None:
    assert explained(race({1.0: -1.0}, 0.1)) is None
    assert list(sentences(None, ROW)) == [f"chosen on {NOTHING}"]


def test_settings_that_leave_the_constants_out_are_told_from_the_first_of_them() -> None:
    choice = explained(race({3.0: -1.0, 10.0: -0.5}, 0.1))
    assert choice is not None
    assert choice.start == FIRST
    assert [one.marks for one in choice.tried] == [(), (CHOSEN, LIKELIEST)]


def test_what_hits_ruled_out_has_no_likelihood() -> None:
    choice = explained(race({0.0: -2.0, 1.0: -1.0, 10.0: -torch.inf}, 0.1))
    assert choice is not None
    assert choice.tried[2].nll is None
    assert not choice.tried[2].plateau
    json.dumps(choice.as_json(), allow_nan=False)
    assert title(choice) == "what was tried (2 of 3)"
