"""What the table says of a difference, against Student's own numbers."""

import numpy as np
import pytest
from scipy import stats

from cacheclip.detection.precision import Precision
from cacheclip.detection.run import Result
from cacheclip.detection.table import interval, table

NOVEL = np.array([False, True])


def own(method: str, rounds: int, seed: int, novel: float) -> Result:
    each = np.array([0.5, novel])
    return Result(method, rounds, seed, 0, Precision(each, each / 2), NOVEL)


def test_the_interval_is_students() -> None:
    x = [0.01, 0.03, -0.02, 0.05, 0.02]
    exact = stats.t.interval(0.95, 4, loc=np.mean(x), scale=stats.sem(x))
    assert interval(x) == pytest.approx(exact)
    assert np.isnan(interval([0.1])).all()


def test_a_line_is_beside_zero_shot_pair_by_pair() -> None:
    rows = [own("zero-shot", 0, k, 0.1 * k) for k in (1, 2, 3)]
    rows += [own("coop", 1, k, 0.1 * k + 0.02) for k in (1, 2, 3)]
    headers, cells = table(rows)
    assert headers[-1].startswith("AP50 novel beside zero-shot")
    assert cells[0] == ["zero-shot", "50.0", "20.0", "35.0", "10.0", "17.5", ""]
    assert cells[1][0] == "coop, self-trained 1x"
    assert cells[1][-1] == "+2.0 [+2.0, +2.0]"


def test_without_zero_shot_there_is_nothing_to_stand_beside() -> None:
    headers, cells = table([own("coop", 0, 1, 0.3)])
    assert headers[-1] == "AP all"
    assert cells == [["coop", "50.0", "30.0", "40.0", "15.0", "20.0"]]


def test_without_a_novel_class_nothing_is_said_of_novel_ones() -> None:
    rows = [own("zero-shot", 0, 1, np.nan), own("coop", 0, 1, np.nan)]
    _, cells = table(rows)
    assert cells[1] == ["coop", "50.0", "", "50.0", "", "25.0", ""]
