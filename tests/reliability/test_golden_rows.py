"""Rows of an earlier version are found again, and made again they are the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cacheclip.cli.main import cacheclip
from tests.reliability.make_golden import COMPARES

FOLDER = Path(__file__).parent / "home-golden"
MEASURED = ("top1_test", "top1_val", "hparams", "curve", "temperature", "nll_test", "learned")


def compared(asked: str, home: Path, *more: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a comparison, and what was said beside them."""
    words = ["compare", *asked.split(), *more, "--json", "--home", str(home)]
    done = CliRunner().invoke(cacheclip, words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def near(value: Any) -> Any:
    """A measured value, its floats as near as machines agree on them."""
    if isinstance(value, dict):
        return {name: near(x) for name, x in value.items()}
    if isinstance(value, list):
        return [near(x) for x in value]
    return pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value


def test_every_row_of_an_earlier_version_is_used_again(tmp_path: Path) -> None:
    home = shutil.copytree(FOLDER, tmp_path / "home")
    before = (home / "results.jsonl").read_bytes()
    for asked in COMPARES:
        _, said = compared(asked, home)
        assert "nothing to run" in said, asked
    assert (home / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("asked", COMPARES)
def test_made_again_they_are_the_same(asked: str, tmp_path: Path) -> None:
    home = shutil.copytree(FOLDER, tmp_path / "home")
    before, _ = compared(asked, home)
    after, _ = compared(asked, home, "--on-existing", "redo")
    for was, now in zip(before, after, strict=True):
        assert now["row_id"] == was["row_id"]
        assert {n: now[n] for n in MEASURED} == {n: near(was[n]) for n in MEASURED}
