import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cacheclip import results
from cacheclip.results import Row
from cacheclip.study.table import notes, summary
from tests.makers import ROW

FILLED: dict[str, Any] = ROW | {
    "dataset": "clipart",
    "eval_dataset": "clipart",
    "model": "nano",
    "encoders": ["nano@v1"],
    "template": "picture",
    "method": "tip-adapter",
    "hparams": {"alpha": 1.0},
    "n_classes": 20,
    "n_train": 80,
    "n_test": 500,
}


def row(**changes: Any) -> Row:
    return Row(**(FILLED | changes))


DECIDING: dict[str, Any] = {
    "dataset": "digits",
    "template": "photo",
    "method": "clip-adapter",
    "method_version": 2,
    "candidates": "d",
    "shots": 8,
    "seed": 2,
    "init_seed": 5,
    "select": "fewshot-val",
    "draw": "coop",
    "draw_id": "e",
    "test_id": "u",
    "stores": {"train/image": "l"},
    "labels": "m",
    "protocol_version": 2,
}


@pytest.mark.parametrize("name", DECIDING)
def test_the_row_id_changes_with_what_decides(name: str) -> None:
    assert row(**{name: DECIDING[name]}).row_id != row().row_id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", 9.0),
        ("device", "cuda"),
        ("version", "1"),
        ("time", "later"),
        ("top1_test", 0.6),
        ("hparams", {"alpha": 2.0}),
    ],
)
def test_the_row_id_does_not_change_with_information(name: str, value: Any) -> None:
    assert row(**{name: value}).row_id == row().row_id


def test_every_field_is_documented_and_printed() -> None:
    assert set(results.documented()) == {f.name for f in dataclasses.fields(Row)} | {"row_id"}
    assert set(row().as_json()) == set(results.documented())


def test_the_log_only_grows(tmp_path: Path) -> None:
    log = tmp_path / results.LOG
    results.append(tmp_path, [row()])
    before = log.read_bytes()
    results.append(tmp_path, [row(seed=2), row(seed=3)])
    assert log.read_bytes().startswith(before)
    assert [json.loads(line)["seed"] for line in log.read_text().splitlines()] == [1, 2, 3]


def test_the_log_gives_back_the_last_good_row_of_an_id(tmp_path: Path) -> None:
    first, last, other = row(time="first"), row(time="last"), row(seed=2)
    failed = row(seed=3, top1_test=None, error="out of memory")
    results.append(tmp_path, [first, other, failed, last])
    found = results.rows(tmp_path, {first.row_id, failed.row_id})
    assert found == {first.row_id: last}


def test_a_line_older_than_the_last_fields_is_read_and_keeps_its_id(tmp_path: Path) -> None:
    line = row().as_json()
    del line["fewer"]
    (tmp_path / results.LOG).write_text(json.dumps(line) + "\n")
    assert results.rows(tmp_path, {row().row_id}) == {row().row_id: row()}
    assert row(fewer="keep").row_id != row().row_id


def test_the_id_of_a_row_of_today_stays_what_it_was() -> None:
    assert row().row_id == "cdb3ec9494cecea2"


def test_the_summary_puts_all_shots_last() -> None:
    headers, _ = summary([row(shots=k) for k in ("all", 16, 2)])
    assert headers == ["method", "2 shots", "16 shots", "all shots"]


def test_the_summary_gives_mean_and_spread_and_zero_shot_in_every_column() -> None:
    rows = [
        row(method="zero-shot", shots=0, seed=None, top1_test=0.4),
        *(row(shots=k, seed=s, top1_test=0.5 + s / 100) for k in (1, 4) for s in (1, 2, 3)),
    ]
    headers, cells = summary(rows)
    assert headers == ["method", "1 shot", "4 shots"]
    assert cells == [["zero-shot", "40.0", "40.0"], ["tip-adapter", "52.0 ± 1.0", "52.0 ± 1.0"]]


def test_the_summary_parts_fixed_settings_and_marks_failures() -> None:
    rows = [row(hparams={"alpha": 1.0}), row(hparams={"alpha": 2.0}, top1_test=None, error="e")]
    _, cells = summary(rows)
    assert cells == [["tip-adapter alpha=1", "50.0 (45-55)"], ["tip-adapter alpha=2", "failed"]]


# What `results.jsonl` held before the fields after `error` were there.
OLD_LINE = """
{"row_id": "958bbf4943e6535f", "dataset": "clipart", "eval_dataset": "clipart", "classes": "all",
"model": "nano", "pretrained": "v1", "encoders": ["nano@v1"], "template": "picture",
"method": "zero-shot", "method_version": 1, "recipe": null, "hparams": {},
"candidates": "e10808d43975dc40", "shots": 0, "seed": null, "init_seed": null, "select": "fixed",
"draw": "ranked", "draw_id": null, "test_id": "110ea3c2c45364a6", "views": null, "keys": null,
"n_classes": 20, "n_train": 0, "n_val": 0, "n_test": 497, "n_failed": 0, "top1_val": null,
"top1_test": 0.45875251509054327, "curve": null, "store_key": "bbe50feca7f7a778", "stores":
{"test/image": "cab98c32119c3c6efc8b6a124200088e5e88b590808bd694705b582c6559b981",
"text": "db5cfbeff320fad606a0b85cea83ba6554928df1eb53710fa5709b5cf4c14cb6"},
"labels": "43a21d52d4851103fdf344f6820e4ef6eddd59ffd1b425a0d77edf48533d040e",
"protocol_version": 1, "seconds": 0.01888412400001016, "stack_seconds": 0.01888412400001016,
"stack_size": 1, "device": "cpu", "precision": null, "version": "0.1.0",
"time": "2026-11-28T01:35:12+00:00", "error": null}
"""


def test_a_line_of_an_older_log_is_read_and_makes_a_table(tmp_path: Path) -> None:
    line = OLD_LINE.replace("\n", " ").strip()
    (tmp_path / results.LOG).write_text(line + "\n")
    (old,) = results.rows(tmp_path, {"958bbf4943e6535f"}).values()
    assert (old.n_test, old.top1_test) == (497, 0.45875251509054327)
    assert (old.ci95_test, old.untested, old.learned) == (None, None, None)
    assert {**old.as_json(), **json.loads(line)} == old.as_json()
    assert summary([old])[1] == [["zero-shot", "45.9 (41-51)"]]  # the interval needs n alone
    assert "±" not in " ".join(notes([old], {}, chooses=False))


def test_a_line_without_what_decides_is_no_row(tmp_path: Path) -> None:
    line = json.loads(OLD_LINE)
    del line["labels"]
    (tmp_path / results.LOG).write_text(json.dumps(line) + "\n")
    assert results.rows(tmp_path, {"958bbf4943e6535f"}) == {}
