"""Labels that somebody changed by hand, and pictures without a label."""

import json
from pathlib import Path
from typing import Any

import pytest

from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request


def nearest_mean(home: Home) -> Row:
    request = Request(methods=("nearest-mean",), shots=(2,), select="fixed")
    ((_, row),) = Comparison(request, home.find(), home).run()
    return row


def relabel(file: Path, split: str, labels: list[Any]) -> None:
    content = json.loads(file.read_text())
    content["splits"][split]["labels"][: len(labels)] = labels
    file.write_text(json.dumps(content))


def test_a_row_says_that_labels_were_corrected_by_hand(home: Home) -> None:
    assert nearest_mean(home).labels_corrected is False
    relabel(home.labels_file("toys"), "train", [1])
    assert nearest_mean(home).labels_corrected is True


@pytest.mark.parametrize("unlabelled", [1, 7])
def test_a_test_picture_without_a_label_tests_nothing(home: Home, unlabelled: int) -> None:
    whole = nearest_mean(home)
    relabel(home.labels_file("toys"), "test", [-1] * unlabelled)
    row = nearest_mean(home)
    assert row.n_test == whole.n_test - unlabelled
    assert row.test_id != whole.test_id
    assert row.draw_id == whole.draw_id
    assert row.error is None
