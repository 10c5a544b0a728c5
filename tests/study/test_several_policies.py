"""Several policies at once: the rows of each alone, and one fit for what they have in common."""

from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import UsageError
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study import run
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit as run_fit
from cacheclip.study.heads import fit
from cacheclip.study.plan import Variant
from cacheclip.study.table import summary
from tests.makers import build_home, cacheclip

EVERY = ("fixed", "fewshot-val", "full-val", "support-loo", "test-oracle")
METHODS = ("zero-shot", "linear-probe", "tip-adapter", "tip-adapter-f")
QUICK = {"tip-adapter-f": {"epochs": (2,)}}
SAME = ("top1_test", "top1_val", "n_val", "chosen_on", "n_calibration", "calibrated_on", "border")


def made(home: Home, select: Any, methods: tuple[str, ...] = METHODS, **more: Any) -> list[Row]:
    given = {name: own for name, own in QUICK.items() if name in methods}
    comparison = Comparison(
        Request(methods, (1, 4), (1, 2), select, given, **more), home.find(), home
    )
    for _ in comparison.run():
        pass
    return comparison.rows


def test_the_rows_are_those_of_each_policy_alone(tmp_path: Path) -> None:
    together = {row.row_id: row for row in made(build_home(tmp_path / "a"), EVERY)}
    home = build_home(tmp_path / "b")
    alone = {row.row_id: row for name in EVERY for row in made(home, name)}
    assert set(together) == set(alone)
    for row_id, row in together.items():
        assert row.error is None
        other = alone[row_id]
        assert set(row.hparams) == set(other.hparams)
        for name, value in row.hparams.items():
            assert value == other.hparams[name] or value == pytest.approx(other.hparams[name])
        assert (row.temperature or 0) == pytest.approx(other.temperature or 0, rel=1e-4)
        assert row.nll_test == pytest.approx(other.nll_test, rel=1e-4)
        for name in SAME:
            assert getattr(row, name) == getattr(other, name), name


def test_what_policies_have_in_common_is_fitted_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Variant] = []

    def counting(method: Any, variants: Any, *args: Any) -> Any:
        fitted.extend(variants)
        return fit(method, variants, *args)

    monkeypatch.setattr(run, "fit", counting)
    made(home, ("fewshot-val", "full-val", "test-oracle"), ("linear-probe",))
    together = len(fitted)
    fitted.clear()
    made(home, "fewshot-val", ("linear-probe",), on_existing="redo")
    assert together == len(fitted)


def test_only_missing_rows_are_made(home: Home) -> None:
    made(home, "fewshot-val", ("tip-adapter",))
    request = Request(("tip-adapter",), (1, 4), (1, 2), EVERY)
    comparison = Comparison(request, home.find(), home)
    assert comparison.reused == 4
    assert len(list(comparison.run())) == 16
    assert len(comparison.rows) == 20


def test_a_table_tells_the_policies_apart(home: Home) -> None:
    _, cells = summary(made(home, ("fixed", "test-oracle"), ("zero-shot", "tip-adapter")))
    labels = [label for label, *_ in cells]
    assert labels == [
        "zero-shot",
        "tip-adapter@fixed",
        "tip-adapter@test-oracle (tuned on test)",
    ]


def test_the_command_takes_policies_with_commas(home: Home) -> None:
    words = ["compare", "--methods", "tip-adapter", "--shots", "4", "--seeds", "1"]
    said = cacheclip(*words, "--select", "fixed,support-loo", "--home", home.root)
    assert said.code == 0
    assert "tip-adapter@support-loo" in said.out
    assert "--select fixed,support-loo" in said.err
    wrong = cacheclip(*words, "--select", "fixed,hindsight", "--home", home.root)
    assert "no selection policy 'hindsight'" in wrong.err


def test_one_fit_has_one_policy(home: Home) -> None:
    request = Request(("gda",), (4,), (1,), ("fixed", "fewshot-val"))
    with pytest.raises(UsageError, match="one fit has one policy"):
        run_fit(request, home.find(), home)


def test_settings_from_imagenet_are_those_that_are_published(home: Home) -> None:
    rows = made(home, "fixed-from-imagenet", ("zero-shot", "proker", "tip-adapter"))
    assert {row.method for row in rows} == {"zero-shot", "proker"}
    assert {row.shots: row.hparams["beta"] for row in rows if row.shots} == {1: 3.0, 4: 1.5}
    (one, *_) = made(home, "fixed-from-imagenet", ("proker",))
    assert one.select == "fixed-from-imagenet"
    with pytest.raises(UsageError, match="no settings of tip-adapter were published"):
        made(home, "fixed-from-imagenet", ("tip-adapter",))


def test_a_policy_that_knows_no_method_leaves_them_to_the_others(home: Home) -> None:
    asked = Request(("gda",), (4,), (1,), ("fixed", "fixed-from-imagenet"))
    comparison = Comparison(asked, home.find(), home)
    assert [block.policy.name for block in comparison.blocks] == ["fixed"]
    assert any("gda has no row of fixed-from-imagenet" in line for line in comparison.refusals)


def test_cells_that_come_out_alike_have_a_row_each(home: Home) -> None:
    """All training pictures are one draw under every seed."""
    asked = Request(("clip-adapter",), ("all",), (1, 2), EVERY, {"epochs": (2,)}, init_seeds=(1, 2))
    comparison = Comparison(asked, home.find(), home)
    found: dict[Any, set[Any]] = {}
    for _, row in comparison.run():
        assert row.error is None, row.error
        found.setdefault((row.select, row.init_seed), set()).add(row.top1_test)
    assert len(comparison.rows) == 4 * len(EVERY)
    assert all(len(own) == 1 for own in found.values())


def test_the_command_of_one_fit_says_so_too(home: Home) -> None:
    words = ("fit", "--method", "gda", "--shots", "4", "--home", home.root)
    said = cacheclip(*words, "--select", "fixed,fewshot-val")
    assert (said.code, "one fit has one policy" in said.err) == (2, True)
