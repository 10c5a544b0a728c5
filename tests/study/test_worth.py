"""What a number is worth, on a small home: what stands beside it, and what is warned of."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip import results
from cacheclip.answers import predictions
from cacheclip.bundle import Bundle
from cacheclip.draws import Draw
from cacheclip.errors import StoreError
from cacheclip.metrics import wilson
from cacheclip.results import Row
from cacheclip.select import CONSTANT, base as policies
from cacheclip.store.home import Home, Labels
from cacheclip.study import fit_table, next_step
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit
from cacheclip.study.per_class import report, tables
from cacheclip.study.table import VALIDATION, notes, spread, summary

ROOT = Path(__file__).resolve().parents[2]
FLOOR = ("zero-shot", "nearest-mean")


def ran(home: Home, request: Request) -> Comparison:
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return comparison


def relabel(home: Home, test: Sequence[int]) -> None:
    """Give the test pictures these labels."""
    labels = home.labels("toys")
    splits = dict(labels.splits) | {"test": replace(labels.splits["test"], labels=list(test))}
    home.write_labels(Labels(labels.dataset, labels.classnames, splits))


UNEQUAL = [0] * 20 + [1] * 12 + [2] * 8  # of four classes


def test_a_row_holds_what_its_accuracy_is_worth(home: Home) -> None:
    relabel(home, UNEQUAL)
    zero_shot, row = ran(home, Request(FLOOR, (4,), select="fixed")).rows
    assert row.top1_test is not None
    assert row.ci95_test == list(wilson(row.top1_test, 40))
    assert row.constant_test == 20 / 40
    assert row.untested == ["doe"]
    assert row.zero_shot_test == zero_shot.zero_shot_test == zero_shot.top1_test
    answers = predictions(home, row.row_id)
    assert answers.label.tolist() == UNEQUAL
    right = answers.predicted == answers.label
    assert right.mean() == row.top1_test
    assert (answers.true_rank == 0).tolist() == right.tolist()
    recalls = [right[answers.label == c].mean() for c in range(3)]
    assert row.macro_test == pytest.approx(np.mean(recalls))
    assert answers.ids == home.find().store("test").ids()
    logged = results.rows(home.root, {row.row_id})[row.row_id]
    assert logged == row


def test_macro_is_the_accuracy_where_classes_are_equal(home: Home) -> None:
    (row,) = ran(home, Request(("nearest-mean",), (4,), select="fixed")).rows
    assert row.macro_test == pytest.approx(row.top1_test)
    fitted = fit(Request(("nearest-mean",), (4,), select="fixed"), home.find(), home)
    assert "macro %" not in fit_table.table(fitted)[0]


def test_without_text_there_is_no_zero_shot_beside_it(home: Home) -> None:
    features = replace(home.find(), text=None)
    fitted = fit(Request(("nearest-mean",), (4,), select="fixed"), features, home)
    assert fitted.row.zero_shot_test is None
    assert [line[0] for line in fit_table.table(fitted)[1]] == ["nearest-mean", "always ant"]


def test_fit_shows_zero_shot_and_the_constant_answer_with_n_and_interval(home: Home) -> None:
    relabel(home, UNEQUAL)
    fitted = fit(Request(("tip-adapter",), (2,)), home.find(), home)
    headers, cells = fit_table.table(fitted)
    assert headers[-1] == "macro %"
    own, zero_shot, constant = (dict(zip(headers, line, strict=True)) for line in cells)
    assert own["method"] == "tip-adapter"
    assert (own["val n"], own["test n"]) == ("8", "40")
    low, high = wilson(fitted.row.top1_test or 0, 40)
    assert own["95 %"] == f"{100 * low:.1f}-{100 * high:.1f}"
    assert zero_shot["test %"] == f"{100 * (fitted.row.zero_shot_test or 0):.1f}"
    assert (constant["method"], constant["test %"]) == ("always ant", "50.0")
    assert constant["macro %"] == "33.3"  # three classes have test pictures
    said = list(fit_table.notes(fitted))
    assert "no test pictures of 1 of 4 classes: doe" in said
    assert "40 test pictures: differences below 15 points mean nothing" in said


def made(**changes: object) -> Row:
    """A row of tip-adapter at 50 % of 500 pictures."""
    filled: dict[str, Any] = {name: None for name in results.documented() if name != "row_id"}
    known = {"method": "tip-adapter", "encoders": ["toy@v1"], "top1_test": 0.5, "n_test": 500}
    known |= {"n_classes": 4, "n_val": 0, "shots": 4, "seed": 1, "hparams": {}}
    return Row(**(filled | known | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zero_shot_test": 0.4, "constant_test": 0.3}, None),
        ({"zero_shot_test": 0.5, "constant_test": 0.5}, None),
        (
            {"zero_shot_test": 0.6, "constant_test": 0.3, "n_val": 16},
            "below zero-shot (60.0): try --select fixed, more --shots or --method zero-shot",
        ),
        (
            {"zero_shot_test": 0.51},
            "below zero-shot (51.0), though within its interval: try more --shots or",
        ),
        (
            {"zero_shot_test": 0.6, "constant_test": 0.7},
            "below zero-shot (60.0) and always answering one class (70.0): try",
        ),
        ({"constant_test": 0.7}, "below always answering one class (70.0): --per-class shows"),
        ({"method": "linear-probe", "zero_shot_test": 0.6}, "a method that reads the text"),
        ({"method": "zero-shot", "zero_shot_test": 0.5, "constant_test": 0.2}, None),
    ],
)
def test_one_warning_where_a_fit_is_below_what_costs_nothing(
    changes: dict[str, object], said: str | None
) -> None:
    lines = list(fit_table.warning(made(**changes)))
    assert len(lines) == (said is not None)
    if said is not None:
        assert lines[0].startswith("warning: below ")
        assert said in lines[0]


def test_a_comparison_names_the_cells_below_zero_shot_and_one_class() -> None:
    rows = [
        made(method="zero-shot", shots=0, seed=None, top1_test=0.6, constant_test=0.55),
        *(made(shots=k, top1_test=0.5 + k / 20, constant_test=0.55) for k in (1, 2, 4)),
    ]
    said = list(notes(rows, {}, chooses=False))
    assert "warning: below zero-shot (60.0): tip-adapter at 1 shot" in said
    assert not [line for line in said if "below one class" in line]
    assert any("500 test pictures" in line for line in said)


def draw(seed: int, support: Sequence[int], val: Sequence[int] = ()) -> Draw:
    ids = tuple(map(str, support))
    return Draw(2, seed, tuple(support), (0,) * len(ids), ids, tuple(val), (), ())


def test_the_deviation_says_what_it_is_over() -> None:
    moving = [draw(1, [0, 1]), draw(2, [2, 3]), draw(3, [0, 3])]
    still = [draw(1, [0, 1], [5]), draw(2, [1, 0], [6])]
    assert spread({2: moving}, chooses=True) == "over 3 draws"
    assert spread({2: still}, chooses=False).endswith("over 2 starts alone (same draws)")
    assert "validation pictures" in spread({2: still}, chooses=True)
    mixed = spread({0: [], 1: moving, 2: still}, chooses=False)
    assert mixed.endswith("over 3 draws, at 2 shots over 2 starts alone (same draws)")


def test_all_pictures_of_a_class_are_the_same_draw_in_any_order(home: Home) -> None:
    whole = ran(home, Request(("nearest-mean",), (6,), (1, 2, 3), "fixed"))
    assert len({row.draw_id for row in whole.rows}) == 3  # their order differs
    said = list(notes(whole.rows, whole.draws, chooses=False))
    assert said[0].endswith("± standard deviation over 3 starts alone (same draws)")
    part = ran(home, Request(("nearest-mean",), (2,), (1, 2, 3), "fixed"))
    assert next(notes(part.rows, part.draws, chooses=False)).endswith("deviation over 3 draws")


def test_one_draw_has_its_interval_in_the_cell_and_no_deviation(home: Home) -> None:
    one = ran(home, Request(FLOOR, (1, 2, 4), select="fixed"))
    cells = summary(one.rows)[1]
    assert all(re.fullmatch(r"\d+\.\d \(\d+-\d+\)", cell) for line in cells for cell in line[1:])
    assert "±" not in " ".join(notes(one.rows, one.draws, chooses=False))


def test_a_draw_that_failed_makes_no_deviation() -> None:
    rows = [made(seed=1), made(seed=2, top1_test=None, error="e")]
    assert summary(rows)[1] == [["tip-adapter", "50.0 (45-55)"]]
    assert "in brackets" in next(notes(rows, {4: [draw(1, [0]), draw(2, [1])]}, chooses=False))


def test_next_is_the_best_by_validation_at_the_most_shots() -> None:
    rows = [
        made(shots=1, top1_val=1.0, top1_test=0.9),
        made(shots=4, seed=1, top1_val=0.7, top1_test=0.99),
        made(shots=4, seed=2, top1_val=0.8, top1_test=0.1),
        made(shots=4, seed=3, top1_val=0.8, top1_test=0.5),
        made(shots=8, top1_test=None, error="e"),
    ]
    assert next_step.best(rows) is rows[2]
    permuted = [replace(row, top1_test=1 - (row.top1_test or 0)) for row in rows]
    assert next_step.best(permuted) is permuted[2]  # test accuracy has no say


def test_left_out_support_pictures_are_not_ranked_against_validation_pictures() -> None:
    held = made(shots=4, top1_val=0.6, chosen_on=VALIDATION)
    left_out = made(shots=4, top1_val=1.0, chosen_on="support pictures", select="support-loo")
    worse = replace(left_out, top1_val=0.5)
    assert next_step.best([left_out, held]) is held
    assert next_step.best([worse, left_out]) is left_out
    assert next_step.why(left_out).startswith("best by support pictures: ")


def test_settings_that_a_paper_carries_over_have_a_line_each() -> None:
    carried = [
        made(select="fixed-from-imagenet", hparams={"alpha": a}, top1_test=a) for a in (0.2, 0.8)
    ]
    assert [line[0] for line in summary(carried)[1]] == [
        "tip-adapter alpha=0.2",
        "tip-adapter alpha=0.8",
    ]
    assert {name for name in policies.names() if not policies.get(name).selects} == {*CONSTANT}


def test_a_method_without_settings_is_one_unmarked_line_whatever_the_policies() -> None:
    rows = [
        made(method="nearest-mean", hparams={}, select=policy, seed=seed, top1_test=seed / 10)
        for policy in ("fixed", "fewshot-val", "test-oracle")
        for seed in (1, 2)
    ]
    assert summary(rows)[1] == [["nearest-mean", "15.0 ± 7.1"]]


def test_next_names_the_last_where_nothing_was_validated() -> None:
    rows = [made(top1_test=0.9), made(top1_test=0.1), made(top1_test=None, error="e")]
    assert next_step.best(rows) is rows[1]
    assert next_step.why(rows[1]).startswith("nothing was chosen on validation pictures")
    assert next_step.best(rows[2:]) is None


@pytest.mark.parametrize(
    "asked",
    [
        Request(
            ("tip-adapter", "linear-probe", "clip-adapter"),
            (1, 2, 4),
            (1, 2, 3),
            "fewshot-val",
            {
                "beta": [2, 3],
                "C": [0.1, 1],
                "lr": [0.01, 1e-3],
                "epochs": 3,
                "tip-adapter": {"alpha": [0.3, 0.7]},
            },
        ),
        Request(
            ("clip-adapter",), (2,), (1, 2), None, {"alpha": [0.5, 0.3], "epochs": 4}, "as-paper"
        ),
        Request(("tip-adapter",), (2,), (1, 2), None, {"alpha": "search", "beta": 1.5}),
        Request(("clip-adapter",), (2,), (1,), "fixed", {"alpha": [0.1, 0.25], "epochs": 3}),
        Request(("zero-shot",), (2,), (1,), "fixed"),
        Request(("tda",), (2,), (1, 2), "fixed"),
        Request(
            ("linear-probe",), ("all",), (1, 2), "fixed", {"class_weight": ["balanced", "none"]}
        ),
    ],
)
def test_the_printed_next_step_makes_exactly_the_row_it_names(home: Home, asked: Request) -> None:
    from cacheclip.cli.main import cacheclip

    comparison = ran(home, asked)
    row = next_step.best(comparison.rows)
    assert row
    if row.top1_val is not None:
        most = [r for r in comparison.rows if r.shots == max(asked.shots)]
        assert row.top1_val == max(r.top1_val for r in most if r.top1_val is not None)
    line = next_step.command(row, comparison.choices)
    program, *words = shlex.split(line)
    assert program == "cacheclip"
    cacheclip.main([*words, "--home", str(home.root)], standalone_mode=False)
    made_again = json.loads((home.root / results.LOG).read_text().splitlines()[-1])
    assert made_again["row_id"] == row.row_id
    assert made_again["top1_test"] == row.top1_test
    assert made_again["hparams"] == row.hparams


def test_per_class_sums_to_the_accuracy_and_names_what_is_wrong(home: Home) -> None:
    relabel(home, UNEQUAL)
    (row,) = ran(home, Request(("nearest-mean",), (1,), select="fixed")).rows
    answers = predictions(home, row.row_id)
    found = report(answers, home.find().labels.classnames)
    assert [c["class"] for c in found["per_class"]] == ["ant", "bee", "cow", "doe"]
    assert [c["n"] for c in found["per_class"]] == [20, 12, 8, 0]
    assert found["per_class"][3]["recall"] is None
    assert sum(c["right"] for c in found["per_class"]) == round((row.top1_test or 0) * 40)
    wrong = 40 - sum(c["right"] for c in found["per_class"])
    assert wrong == sum(c["count"] for c in found["confusions"]) == len(found["wrong"]) > 10
    assert all(c["true"] != c["predicted"] for c in found["confusions"])
    counts = [c["count"] for c in found["confusions"]]
    assert counts == sorted(counts, reverse=True)
    certain = [w["probability"] for w in found["wrong"]]
    assert certain == sorted(certain, reverse=True)
    for entry in found["wrong"]:
        k = answers.ids.index(entry["id"])
        assert home.find().labels.classnames[UNEQUAL[k]] == entry["true"] != entry["predicted"]
        assert entry["true_rank"] > 0
    (_, recalls), (_, confusions), (title, pictures) = tables(found)
    assert [line[0] for line in recalls[1]][-1] == "doe"
    assert len(confusions[1]) <= 10
    assert len(pictures[1]) == 10
    assert f"10 of {wrong}" in title


def test_per_class_in_the_commands(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    from cacheclip.cli.main import cacheclip

    def run(line: str) -> str:
        cacheclip.main([*shlex.split(line), "--home", str(home.root)], standalone_mode=False)
        return capsys.readouterr().out

    one = "--method nearest-mean --shots 1 --select fixed --per-class"
    row = json.loads(run(f"fit {one} --json"))
    assert {"per_class", "confusions", "wrong"} < set(row)
    table = run(f"fit {one}")
    assert "recall of each class" in table and row["wrong"][0]["id"] in table
    several = "compare --methods nearest-mean,tip-adapter --shots 1,2 --seeds 2 --per-class"
    rows = json.loads(run(f"{several} --json"))
    (shown,) = [row for row in rows if "per_class" in row]
    most = [row["top1_val"] for row in rows if row["shots"] == 2]
    assert (shown["shots"], shown["top1_val"]) == (2, max(most))
    assert "wrong pictures" in run(several)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"alpha": "learned"}, {"alpha"}),
        ({"alpha": "learned", "branch": "text"}, {"alpha"}),
        ({"alpha": "learned", "branch": "both"}, {"image_alpha", "text_alpha"}),
        ({"alpha": 0.3}, set()),
    ],
)
def test_a_learned_ratio_is_in_row_and_bundle(
    home: Home, settings: dict[str, Any], names: set[str]
) -> None:
    own = Request(("clip-adapter",), (4,), select="fixed", settings=settings | {"epochs": 5})
    fitted = fit(own, home.find(), home)
    assert fitted.row.learned is not None and fitted.bundle
    assert set(fitted.row.learned) == names
    bundle = Bundle.read(fitted.bundle)
    assert bundle.learned == fitted.row.learned
    assert any("learned: " in line for line in fit_table.notes(fitted)) == bool(names)
    for name, ratio in fitted.row.learned.items():
        branch = "text_" if "text" in name or settings.get("branch") == "text" else ""
        shift = float(bundle.head[f"{branch}shift"])
        assert ratio == pytest.approx(1 / (1 + np.exp(-(np.log(0.25) + shift))), abs=1e-5)
        assert ratio != pytest.approx(0.2, abs=1e-6)


def test_a_setting_that_follows_the_logit_scale_says_so(home: Home) -> None:
    fitted = fit(Request(("clip-adapter",), (1,), select="fixed"), home.find(), home)
    assert "lr=0.008 (0.002 at logit scale 100, here 50)" in fit_table.settings(fitted)
    given = Request(("clip-adapter",), (1,), select="fixed", settings={"lr": 0.008})
    assert "logit scale" not in fit_table.settings(fit(given, home.find(), home))
    chosen = Request(("clip-adapter",), (1,), settings={"lr": [0.008, 0.01], "epochs": 2})
    assert "logit scale" not in fit_table.settings(fit(chosen, home.find(), home))


def test_a_set_without_a_readable_test_picture_is_refused(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    home = make_home(tmp_path / "h", failed=40)
    with pytest.raises(StoreError, match="no test picture"):
        Comparison(Request(("zero-shot",), (1,)), home.find(), home)


def test_the_example_of_the_document_runs(home: Home) -> None:
    fit(Request(("nearest-mean",), (1,), select="fixed"), home.find(), home)
    text = (ROOT / "docs" / "predictions.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    environment = os.environ | {"CACHECLIP_HOME": str(home.root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "top-1" in done.stdout and "test/" in done.stdout


def test_next_is_of_the_constants_and_of_no_method_where_nothing_says_which() -> None:
    rows = [made(constants=True), made(constants=False, hparams={"alpha": 9.0})]
    assert next_step.best(rows) is rows[0]
    assert next_step.best([*rows, made(method="zs-lp", constants=True)]) is None
    assert not next_step.leaves_bundle(made(setting="transductive"))
    assert next_step.leaves_bundle(made(setting=None))
