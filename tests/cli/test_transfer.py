"""A bundle that serves the classes of another set, without a step."""

import json
from pathlib import Path

import numpy as np
import pytest

from cacheclip.bundle import Bundle
from cacheclip.store.home import Home
from tests.makers import build_home, cacheclip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    build_home(tmp_path / "home", "strange", train=(7, 6, 5, 6))  # so other pictures
    return build_home(tmp_path / "home")


def fitted(home: Home, method: str, out: Path) -> Path:
    asked = ("--method", method, "--shots", "2", "--select", "fixed", "--dataset", "toys")
    said = cacheclip("fit", *asked, "--set", "epochs=2", "--out", out, "--home", home.root)
    assert said.code == 0, said.err
    return out


def test_a_bundle_of_another_set_is_what_compare_tests_there(home: Home, tmp_path: Path) -> None:
    bundle = fitted(home, "meta-adapter", tmp_path / "a.safetensors")
    asked = (bundle, "--dataset", "strange", "--shots", "2", "--out", tmp_path / "b.safetensors")
    said = cacheclip("transfer", *asked, "--home", home.root, "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    own, made = Bundle.read(bundle), Bundle.read(tmp_path / "b.safetensors")
    for name in ("query", "key", "gate", "gate_bias"):
        np.testing.assert_array_equal(own.head[name], made.head[name])
    assert not np.array_equal(own.head["weight"], made.head["weight"])
    assert made.provenance["learned"] == own.provenance
    words = ("--methods", "meta-adapter", "--shots", "2", "--seeds", "1", "--select", "fixed")
    where = ("--dataset", "toys", "--test-on", "strange", "--home", home.root, "--json")
    rows = json.loads(cacheclip("compare", *words, "--set", "epochs=2", *where).out)
    (there,) = [row for row in rows if row["eval_dataset"] == "strange"]
    assert (told["top1_test"], told["eval_draw_id"]) == (there["top1_test"], there["eval_draw_id"])
    on_set = cacheclip(
        "predict", tmp_path / "b.safetensors", "--on", "strange", "--home", home.root, "--json"
    )
    assert on_set.code == 0, on_set.err


def test_back_on_its_own_set_and_shots_it_is_the_bundle_it_was(home: Home, tmp_path: Path) -> None:
    bundle = fitted(home, "meta-adapter", tmp_path / "a.safetensors")
    again = tmp_path / "again.safetensors"
    asked = (bundle, "--dataset", "toys", "--shots", "2", "--out", again, "--home", home.root)
    said = cacheclip("transfer", *asked)
    assert said.code == 0, said.err
    assert "test accuracy" in said.out
    own, made = Bundle.read(bundle), Bundle.read(again)
    for name, x in own.head.items():
        np.testing.assert_array_equal(made.head[name], x)


def test_text_alone_will_do_where_a_method_reads_no_shots(home: Home, tmp_path: Path) -> None:
    bundle = fitted(home, "linear-adapter", tmp_path / "a.safetensors")
    out = tmp_path / "b.safetensors"
    said = cacheclip(
        "transfer", bundle, "--dataset", "strange", "--out", out, "--home", home.root, "--json"
    )
    assert said.code == 0, said.err
    assert json.loads(said.out)["eval_draw_id"] is None
    assert Bundle.read(out).provenance["shots"] == 0


def test_a_bundle_of_its_own_classes_alone_is_refused(home: Home, tmp_path: Path) -> None:
    bundle, out = fitted(home, "tip-adapter-f", tmp_path / "a.safetensors"), tmp_path / "b"
    said = cacheclip("transfer", bundle, "--dataset", "strange", "--out", out, "--home", home.root)
    assert (said.code, "keeps what serves its own classes alone" in said.err) == (2, True)
    assert "meta-adapter" in said.err
    assert not out.exists()
