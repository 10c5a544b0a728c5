"""The commands that read the log, on rows that comparisons made, and the lines of the page."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip import results
from cacheclip.answers import predictions
from cacheclip.cli.compare import command
from cacheclip.results import LOG
from cacheclip.stats.one_row import measures, table
from cacheclip.store.home import Home
from cacheclip.study.supports import COOP, GIVEN, LISTED, RANKED
from tests.makers import Said, build_home, cacheclip

DOC = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A log of three methods, one of them under two policies and a grid."""
    found = build_home(tmp_path_factory.mktemp("stats"))
    for words in (
        "--methods gda,nearest-mean --select fixed",
        "--methods gda --select fixed --set alpha=0.1,10",
        "--methods gda --select fewshot-val",
    ):
        done = run(found, "compare", "--shots", "1,2", "--seeds", "2", *words.split())
        assert done.code == 0, done.err
    return found


def run(home: Home, *words: str) -> Said:
    return cacheclip(*words, "--home", str(home.root))


def asked(home: Home, *words: str) -> Any:
    done = run(home, *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_two_methods_are_compared_from_the_log(home: Home) -> None:
    found = asked(home, "stats", "gda@fixed", "nearest-mean")
    assert [own["shots"] for own in found["paired"]] == [1, 2, None]
    rows = {line["row_id"]: line for line in map(json.loads, log_of(home))}
    for trial in found["trials"]:
        first, second = (rows[row_id] for row_id in trial["row_ids"])
        assert (first["method"], first["constants"]) == ("gda", True)
        test = trial["mcnemar"]
        gap = (test["first_only"] - test["second_only"]) / first["n_test"]
        assert gap == pytest.approx(first["top1_test"] - second["top1_test"])
    said = run(home, "stats", "gda@fixed", "nearest-mean", "-v")
    assert "trial by trial" in said.out
    assert "over 4 trials" in said.err


def test_a_row_says_what_it_was_given_and_a_kind_of_draw_is_one_of_those_there_are(
    home: Home,
) -> None:
    lines = [json.loads(line) for line in log_of(home)]
    given = [line["given"] for line in lines if line["method"] == "gda"]
    assert {repr(own) for own in given} == {"{}", "{'alpha': [0.1]}", "{'alpha': [10.0]}"}
    for kind in (RANKED, COOP, GIVEN, LISTED):
        assert run(home, "stats", "--draw", kind).code == 0  # zero-shot draws nothing
    assert run(home, "stats", "--draw", "copo").code == 2


def log_of(home: Home) -> list[str]:
    return (home.root / LOG).read_text().splitlines()


def test_many_methods_are_ranked_and_listed_as_they_were_run(home: Home) -> None:
    found = asked(home, "stats")
    names = [own["name"] for own in found["methods"]]
    wanted = {"zero-shot", "nearest-mean", "gda@fixed", "gda@fixed@alpha=10", "gda@fewshot-val"}
    assert wanted < set(names)
    assert set(found["friedman"]["mean_ranks"]) == set(names)
    assert "no ranks: over 2 seeds of one data set" in run(home, "stats").err  # CD > k - 1


def test_the_price_of_tuning_on_test_is_printed_without_a_comparison(home: Home) -> None:
    before = log_of(home)
    lines = asked(home, "honesty", "gda")["lines"]
    assert [line["shots"] for line in lines] == [1, 2]
    for line in lines:
        assert set(line["policies"]) == {"fixed", "fewshot-val"}
        assert min(own["price"] for own in line["policies"].values()) >= 0
        assert line["n_settings"] >= 3
    assert "no result" in run(home, "honesty").err
    assert log_of(home) == before


def test_a_row_is_shown_whole_and_agrees_with_what_the_log_says(home: Home) -> None:
    last = json.loads(log_of(home)[-1])
    found = asked(home, "row")
    assert found["row"]["row_id"] == last["row_id"]
    assert found == asked(home, "row", last["row_id"][:9])
    right = sum(one["right"] for one in found["per_class"])
    assert right / last["n_test"] == found["measures"]["top1"]["value"] == last["top1_test"]
    low, high = found["measures"]["ece"]["ci95"]
    assert low <= last["ece_test"] + 1e-3 and last["ece_test"] - 1e-3 <= high
    low, high = found["measures"]["ece_raw"]["ci95"]
    assert low <= last["ece_test_raw"] + 1e-3 and last["ece_test_raw"] - 1e-3 <= high
    assert found["measures"]["top5"]["value"] == 1.0  # of four classes
    assert (last["curve"], len(found["row"]["curve"])) == (None, 8)  # of gda's alphas
    said = run(home, "row")
    assert "macro accuracy" in said.out and "top-5" not in said.out
    assert last["row_id"] in said.err


def test_an_interval_holds_its_value_and_of_few_classes_no_first_five_are_shown(
    home: Home,
) -> None:
    row_id = asked(home, "row")["row"]["row_id"]
    made = next(row for row in results.rows(home.root).values() if row.row_id == row_id)
    answers = predictions(home, row_id)
    told = measures(made, answers)["ece"]["ci95"]
    assert told is None or told[0] <= (made.ece_test or 0.0) <= told[1]
    found = measures(replace(made, ece_test=1.0), answers)
    assert found["ece"]["ci95"] is None
    lines = {line[0]: line[1:] for line in table(found, made.n_classes)[1]}
    assert lines["calibration error, %"] == ["100.0", "-"]
    assert not any("top-5" in name for name in lines)


def test_a_pair_without_why_is_answered_with_its_comparison(home: Home) -> None:
    said = run(home, "compare", "gda@fixed", "gda@fewshot-val").err
    assert said.rstrip().endswith("cacheclip compare --methods gda --select fixed,fewshot-val")


def test_what_was_answered_holds_the_runners_up_of_each_picture(home: Home) -> None:
    for line in map(json.loads, log_of(home)):
        found = predictions(home, line["row_id"])
        np.testing.assert_array_equal(found.top[:, 0], found.predicted)
        np.testing.assert_array_equal(np.sort(found.top), np.tile(np.arange(4), (40, 1)))
        place = found.true_rank[:, None].astype(int)  # equal logits aside, of which there are none
        np.testing.assert_array_equal(np.take_along_axis(found.top, place, 1)[:, 0], found.label)
        kept = np.take_along_axis(found.top_log_p, place, 1)[:, 0]
        np.testing.assert_array_equal(kept, found.true_log_p)
        np.testing.assert_allclose(np.exp(found.top_log_p.astype(float)).sum(1), 1, atol=5e-3)


def test_the_python_of_the_predictions_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = build_home(tmp_path, val=8)
    assert run(home, "compare", "--methods", "gda", "--shots", "4", "--select", "fixed").code == 0
    monkeypatch.setenv("CACHECLIP_HOME", str(home.root))
    text = (DOC.parent / "predictions.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    told: dict[str, Any] = {}
    exec("\n".join(blocks), told)
    assert "classes in a set" in capsys.readouterr().out
    answers, sets = told["answers"], told["sets"]
    held = [label in own for label, own in zip(answers.label, sets, strict=True)]
    assert np.mean(held) > 0.75  # of 40 pictures, where nine in ten are promised
    assert np.mean([len(own) for own in sets]) < 4


def test_a_row_of_features_that_are_gone_has_classes_by_number(home: Home, tmp_path: Path) -> None:
    for part in ("predictions", "tests"):
        shutil.copytree(home.root / part, tmp_path / part)
    shutil.copy(home.root / LOG, tmp_path / LOG)
    done = cacheclip("row", "--home", str(tmp_path))
    assert "by their numbers" in done.err
    assert done.code == 0
    unknown = cacheclip("row", "beef", "--home", str(tmp_path))
    last = json.loads(log_of(home)[-1])
    assert unknown.code == 4
    assert f"the last logged first: {last['row_id']} (gda, 2 shots, seed 2)" in unknown.err


@pytest.mark.parametrize("name", ["stats", "honesty", "row"])
def test_a_log_that_is_not_there_is_answered_with_a_command(name: str, tmp_path: Path) -> None:
    done = cacheclip(name, "--home", str(tmp_path))
    assert done.code == 4
    assert f"fix: cacheclip compare --home {tmp_path}" in done.err


def test_what_is_missing_is_made_by_the_command_that_is_printed(tmp_path: Path) -> None:
    home = ("--home", str(build_home(tmp_path).root))
    assert cacheclip("compare", "--methods", "gda", "--shots", "1", "--seeds", "2", *home).code == 0
    for words in (("honesty", "gda"), ("stats", "gda@fewshot-val", "tip-adapter")):
        refused = cacheclip(*words, *home)
        assert refused.code == 4
        fix = next(line for line in refused.err.splitlines() if line.startswith("fix: "))
        assert cacheclip(*shlex.split(fix.removeprefix("fix: "))[1:]).code == 0
        assert cacheclip(*words, *home).code == 0


def test_what_policies_chose_from_is_known_from_beside_the_log(tmp_path: Path) -> None:
    home = build_home(tmp_path)
    words = ("--methods", "gda", "--shots", "1", "--seeds", "1", "--select", "fewshot-val")
    assert run(home, "compare", *words).code == 0
    assert all(json.loads(line)["curve"] is None for line in log_of(home))
    assert "--set alpha=0,0.0001," in run(home, "honesty", "gda").err
    for file in (home.root / "predictions").iterdir():
        file.unlink()
    lost = run(home, "honesty", "gda")
    assert "--select fixed" in lost.err and "--set alpha" not in lost.err


def test_the_commands_of_the_page_run_and_print_what_it_shows(tmp_path: Path) -> None:
    """On the log of `tests/reliability`, which every command of the page can read."""
    golden = Path(__file__).resolve().parents[1] / "reliability" / "home-golden"
    text = DOC.read_text()
    lines = re.findall(r"^cacheclip (?:stats|honesty|row).*$", text, re.MULTILINE)
    assert len(lines) >= 5
    comparison, why = re.findall(r"^cacheclip compare.*$", text, re.MULTILINE)
    command.make_context("compare", shlex.split(comparison)[2:])  # its options are there
    home = shutil.copytree(golden, tmp_path / "home")
    done = cacheclip(*shlex.split(why)[1:], "--home", str(home))
    assert (done.code, "test pictures" in done.err) == (0, True), done.err
    for line in lines:
        done = cacheclip(*shlex.split(line.split("#")[0])[1:], "--home", str(golden))
        assert done.code == 0, (line, done.err)
        assert done.out
