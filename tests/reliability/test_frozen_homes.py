"""Homes of earlier versions are read as they were; `make_home.py` made them."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cacheclip import results
from cacheclip.answers import predictions
from cacheclip.bundle import Bundle
from cacheclip.files.log import read_log
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from tests.reliability.world import run_command

FOLDER = Path(__file__).parent
VOLATILE = {"seconds", "stack_seconds", "stack_size", "time", "version", "device", "predictions"}


@pytest.fixture(params=["home-v1", "home-v1-sealed"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    shutil.copytree(FOLDER / request.param, tmp_path / "home")
    return Home(tmp_path / "home")


def lasting(row: Row) -> dict[str, Any]:
    """What a row says of its result, its floats as near as machines agree on them."""
    return {
        name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
        for name, value in asdict(row).items()
        if name not in VOLATILE
    }


def test_a_home_of_an_earlier_version_is_read_as_it_was(home: Home) -> None:
    place = ["--home", str(home.root)]
    assert "complete, extracted last" in run_command(["ls", *place])
    assert "npz/toys" in run_command(["info", *place])
    lines, left_out = read_log(home.root / results.LOG)
    assert left_out == 0
    frozen = results.rows(home.root, {line["row_id"] for line in lines})
    assert {row.method for row in frozen.values()} == {"nearest-mean", "zero-shot"}
    for row_id, row in frozen.items():
        assert len(predictions(home, row_id).ids) == row.n_test == 6
        made = Bundle.read(home.root / "bundles" / f"{row_id}.safetensors")
        assert (made.method, list(made.classnames)) == (row.method, ["ant", "bee"])


def test_the_rows_of_an_earlier_version_are_those_of_today(home: Home) -> None:
    features = home.find()
    assert not any("by hand" in line or "made anew" in line for line in features.notices)
    methods = ("nearest-mean", "zero-shot")
    asked = Request(methods=methods, shots=(2,), select="fixed")
    there = Comparison(asked, features, home)
    assert there.reused == len(methods)
    frozen = {row.method: row for row in there.rows}
    again = Comparison(Request(methods, (2,), select="fixed", on_existing="redo"), features, home)
    for _, row in again.run():
        was = asdict(frozen[row.method])
        assert {name: was[name] for name in was if name not in VOLATILE} == lasting(row)
