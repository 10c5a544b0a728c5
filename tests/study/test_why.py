"""Why two rows differ: ingredients are swapped one at a time, and their points add up."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.answers import predictions
from cacheclip.results import LOG, append, rows as logged_rows
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, set_digest_of, text_key
from cacheclip.store.text import write_text_store
from tests import makers
from tests.makers import CLASSES, DIM, ENCODER, Said, add_encoder, build_home, cacheclip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A log of methods that draw and one that does not, under two policies, and of a setting."""
    found = build_home(tmp_path_factory.mktemp("why"))
    compared(found, "--methods", "zero-shot,gda,nearest-mean", "--select", "fixed")
    compared(found, "--methods", "gda", "--select", "fixed", "--set", "alpha=10")
    compared(found, "--methods", "gda,tip-adapter", "--select", "fewshot-val")
    return found


def run(home: Home, *words: str) -> Said:
    return cacheclip("compare", *words, "--home", str(home.root))


def compared(home: Home, *words: str) -> list[dict[str, Any]]:
    done = run(home, "--shots", "1,2", "--seeds", "2", *words, "--json")
    assert done.code == 0, done.err
    rows: list[dict[str, Any]] = json.loads(done.out)
    return rows


def logged(home: Home) -> dict[str, dict[str, Any]]:
    lines = map(json.loads, (home.root / LOG).read_text().splitlines())
    return {line["row_id"]: line for line in lines}


def row(home: Home, **wanted: Any) -> dict[str, Any]:
    """The row logged last with such fields."""
    return [x for x in logged(home).values() if {n: x[n] for n in wanted} == wanted][-1]


def steps(home: Home, *words: str) -> list[dict[str, Any]]:
    """The way between two rows, whose points add up to their difference."""
    before = (home.root / LOG).read_bytes()
    done = run(home, *words, "--why", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = logged(home)
    first, second = rows[found["first"]], rows[found["second"]]
    way: list[dict[str, Any]] = found["steps"]
    assert (way[0]["top1"], way[0]["row_id"]) == (first["top1_test"], first["row_id"])
    assert (way[-1]["top1"], way[-1]["row_id"]) == (second["top1_test"], second["row_id"])
    total = second["top1_test"] - first["top1_test"]
    assert sum(step["gain"] for step in way) == pytest.approx(total, abs=1e-12)
    assert all(step["ci95"][0] <= step["gain"] <= step["ci95"][1] for step in way[1:])
    assert (home.root / LOG).read_bytes() == before  # rows in between are nobody's results
    return way


def swapped(way: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(step["swapped"], step["change"]) for step in way[1:]]


def test_two_methods_meet_at_their_constants(home: Home) -> None:
    way = steps(home, "gda@fewshot-val", "tip-adapter")
    assert swapped(way) == [
        ("gda select", "fewshot-val -> fixed"),
        ("method", "gda -> tip-adapter"),
        ("tip-adapter select", "fixed -> fewshot-val"),
    ]
    rows = logged(home)
    assert rows[way[1]["row_id"]]["constants"]  # of the log, where it stands there
    assert way[2]["row_id"] not in rows


def test_a_method_that_draws_nothing_takes_the_draw_of_the_other(home: Home) -> None:
    assert swapped(steps(home, "zero-shot", "nearest-mean")) == [
        ("method", "zero-shot -> nearest-mean")
    ]


def test_rows_of_one_method_are_told_apart_by_draw_shots_settings_and_policy(home: Home) -> None:
    first = row(home, method="gda", shots=1, seed=2, given={"alpha": [10.0]})
    second = row(home, method="gda", shots=2, seed=1, select="fewshot-val")
    way = steps(home, first["row_id"], second["row_id"][:10])
    assert swapped(way) == [
        ("draw", "seed 2 -> seed 1"),
        ("shots", "1 -> 2"),
        ("gda alpha", "10 -> as the method has it"),
        ("gda select", "fixed -> fewshot-val"),
    ]
    rows = logged(home)  # all of these were run on their own
    assert all(step["row_id"] in rows for step in way)
    right = [predictions(home, s["row_id"]) for s in way]
    for before, after, step in zip(right, right[1:], way[1:], strict=False):
        gap = (after.predicted == after.label).mean() - (before.predicted == before.label).mean()
        assert step["gain"] == pytest.approx(gap)


def test_text_and_encoder_are_ingredients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = build_home(tmp_path)
    (first,) = alone(home)
    other_text(home)
    (second,) = alone(home)
    assert first["template"] != second["template"]
    assert swapped(steps(home, first["row_id"], second["row_id"])) == [("text", "t -> other")]
    monkeypatch.setattr(makers, "ENCODER", {**ENCODER, "name": "twin", "logit_scale": 5.0})
    build_home(tmp_path)
    (third,) = alone(home, "--model", "twin")
    way = steps(home, first["row_id"], third["row_id"])
    assert swapped(way) == [("encoder", "toy@v1 -> twin@v1")]
    done = run(home, second["row_id"], third["row_id"], "--why")
    assert "there is no class text of other by twin@v1" in done.err


def alone(home: Home, *words: str) -> list[dict[str, Any]]:
    done = run(home, "--methods", "tip-adapter", "--shots", "2", "--seeds", "1", *words, "--json")
    assert done.code == 0, done.err
    return [x for x in json.loads(done.out) if x["method"] == "tip-adapter"]


def other_text(home: Home) -> None:
    """Class text of another template, extracted last."""
    features = home.find()
    names = list(features.labels.classnames)
    prompts = [[f"the {name}"] for name in names]
    compute = features.compute
    key = text_key(
        encoder=ENCODER, compute=compute, prompts=prompts, classnames=names, template="other"
    )
    x = np.random.default_rng(7).normal(size=(CLASSES, 1, DIM)).astype(np.float32)
    place = home.text_path(features.dataset, key_digest(key))
    store = write_text_store(place, key, per_prompt=x, classnames=names, prompts=prompts, info={})
    home.record_extraction(
        dataset=features.dataset,
        model="toy",
        pretrained="v1",
        set_digest=set_digest_of(features.store("test").key),
        text_digest=store.digest,
        root=None,
    )


def test_a_row_of_features_that_are_others_now_is_refused_with_what_makes_it(
    tmp_path: Path,
) -> None:
    home = build_home(tmp_path)
    first, second, *_ = compared(home, "--methods", "gda", "--select", "fixed")
    build_home(tmp_path, train=(7,) * CLASSES)
    done = run(home, first["row_id"], second["row_id"], "--why")
    assert done.code == 4
    assert f"row {first['row_id']} cannot be made again: " in done.err
    assert "labels would be another now" in done.err
    fix = done.err.partition("fix: ")[2].partition(", then")[0].split()
    assert cacheclip(*fix[1:]).code == 0


def test_what_cannot_be_swapped_is_said(home: Home, tmp_path: Path) -> None:
    some = [row(home, method=name)["row_id"] for name in ("gda", "nearest-mean")]
    for words, code, what in (
        (["gda", "tip-adapter"], 2, "compare takes names of rows with --why alone"),
        (["gda", "--why"], 2, "--why takes two rows, and here is 1"),
        ([*some, "--why", "--seeds", "2"], 2, "--seeds says nothing"),
        ([some[0], some[0], "--why"], 2, "one row twice"),
        (["gda", "tip-adapter", "--why"], 4, "gda means 3 contenders"),
        (["beef", some[0], "--why"], 4, "no rows begin with beef"),
    ):
        done = run(home, *words)
        assert (done.code, what in done.err) == (code, True), done.err
    other = build_home(tmp_path, failed=1)
    (apart,) = alone(other)
    lines = [json.dumps(row(home, method="gda")), json.dumps(apart)]
    (other.root / LOG).write_text("".join(f"{line}\n" for line in lines))
    done = run(other, some[0], apart["row_id"], "--why")
    assert done.code == 2
    assert "answer other questions" in done.err and "test_id" in done.err


def test_named_classes_go_by_their_names(tmp_path: Path) -> None:
    home = build_home(tmp_path)
    words = ("--methods", "zero-shot,gda", "--select", "fixed", "--classes", "bee,doe,ant")
    rows = compared(home, *words)
    assert all(own["classnames"] == ["ant", "bee", "doe"] for own in rows)
    classes = rows[0]["classes"]
    ids = [row(home, method=name, classes=classes)["row_id"] for name in ("zero-shot", "gda")]
    assert swapped(steps(home, *ids)) == [("method", "zero-shot -> gda")]
    shown = cacheclip("row", ids[1], "--home", str(home.root), "--json")
    assert [one["class"] for one in json.loads(shown.out)["per_class"]] == ["ant", "bee", "doe"]
    lacks = cacheclip("stats", "zero-shot", "gp", "--classes", classes, "--home", str(home.root))
    assert "--classes ant,bee,doe" in lacks.err
    old = [replace(one, classnames=None) for one in logged_rows(home.root).values()]
    append(home.root, old)
    done = run(home, *ids, "--why")
    assert f"logged before rows named their classes, {classes}" in done.err


def test_a_row_of_two_encoders_is_made_with_both(tmp_path: Path) -> None:
    home = build_home(tmp_path)
    add_encoder(home, failed=[1, 4])
    words = ("--methods", "gda,gp", "--select", "fixed", "--model", "toy", "--aux", "other")
    compared(home, *words, "--set", "gp.encoders=2")
    ids = [row(home, method=name, shots=2, seed=1)["row_id"] for name in ("gda", "gp")]
    way = swapped(steps(home, *ids))
    assert way == [("method", "gda -> gp"), ("gp encoders", "as the method has it -> 2")]
    done = run(home, *words[2:], "--methods", "gda", "--shots", "2", "--seeds", "1")
    assert "next: cacheclip fit --dataset toys --model toy --pretrained v1 --aux other" in done.err
