"""`test-oracle`: tuned on the test pictures in `score.py` alone, and marked wherever it stands."""

from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import UsageError
from cacheclip.results import Row
from cacheclip.stats.contenders import marked
from cacheclip.store.home import Home
from cacheclip.study import next_step
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.fit import fit
from cacheclip.study.fit_table import table
from cacheclip.study.table import summary
from tests.makers import cacheclip


def made(home: Home, select: str, methods: tuple[str, ...] = ("gda",), **given: Any) -> list[Row]:
    request = Request(methods, (4,), (1,), select, dict(given))
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return comparison.rows


def test_it_has_the_most_that_any_of_its_settings_has(home: Home) -> None:
    (row,) = made(home, "test-oracle", ("proker",))
    every = made(home, "fixed", ("proker",), lam=(0.0, 0.001, 0.01, 0.1, 1.0), beta=(0.5, 1.7, 5.0))
    assert row.top1_test is not None
    assert row.top1_test >= max(own.top1_test or 0.0 for own in every)
    (again,) = made(home, "fixed", ("proker",), **{n: (x,) for n, x in row.hparams.items()})
    assert again.top1_test == row.top1_test


@pytest.mark.parametrize("method", ["linear-probe", "tip-adapter", "transclip-fs"])
def test_its_row_says_so_and_has_nothing_of_a_validation(home: Home, method: str) -> None:
    (row,) = made(home, "test-oracle", (method,))
    assert row.chosen_on is not None
    assert "no result" in row.chosen_on
    assert (row.n_val, row.top1_val, row.curve) == (0, None, None)


def test_every_table_marks_it_and_nothing_goes_on_from_it(home: Home) -> None:
    (row,) = made(home, "test-oracle")
    _, ((label, *_),) = summary([row])
    assert "(tuned on test)" in label
    assert "(tuned on test)" in marked("gda@test-oracle", row)
    assert next_step.best([row]) is None
    assert not next_step.leaves_bundle(row)


def test_a_fit_of_it_leaves_no_bundle(home: Home, tmp_path: Path) -> None:
    request = Request(("gda",), (4,), (1,), "test-oracle")
    fitted = fit(request, home.find(), home)
    assert fitted.bundle is None
    assert "(tuned on test)" in table(fitted)[1][0][0]
    with pytest.raises(UsageError, match="no bundle"):
        fit(request, home.find(), home, tmp_path / "bundle.safetensors")


def test_the_commands_mark_it(home: Home) -> None:
    made(home, "fixed")
    oracle = ["--shots", "4", "--select", "test-oracle"]
    for command in (
        ["compare", "--methods", "gda", "--seeds", "1", *oracle],
        ["fit", "--method", "gda", *oracle],
        ["stats"],
    ):
        said = cacheclip(*command, "--home", home.root)
        assert "tuned on test" in said.out


def test_it_needs_test_pictures(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SetData, "tested", False)
    request = Request(("gda",), (4,), (1,), "test-oracle", tests=False)
    with pytest.raises(UsageError, match="needs test images"):
        Comparison(request, home.find(), home)
