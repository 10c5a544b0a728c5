"""`predict` on features of the cache, by parts, and the same as of a file and of the pictures."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacheclip.answers import predictions
from cacheclip.bundle import Bundle
from cacheclip.cli import predict as command
from cacheclip.errors import StoreError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.inference import cached, rows
from cacheclip.inference.cached import cached_rows, find_cached
from cacheclip.methods import base as methods
from cacheclip.store.home import Home
from tests.inference.asking import NAMES, answers, classes, fit, of_file, refused
from tests.makers import DIM, build_home, cacheclip


def test_a_cached_split_is_answered_with_ids_labels_and_what_failed(on: Any) -> None:
    told = on("toys/test", "--json")
    found = answers(told)
    assert len(found) == 40
    assert found[0] == {
        "image": "test/0/0.png",
        "class": None,
        "probability": None,
        "top": [],
        "error": "decode: broken",
        "label": "ant",
        "split": "test",
    }
    assert [one["label"] for one in found] == [name for name in NAMES for _ in range(10)]
    right = sum(one["class"] == one["label"] for one in found)
    assert "2 of 40 rows could not be answered" in told.err
    assert f"accuracy {100 * right / 38:.1f} % of 38 labelled rows of split test" in told.err
    assert "learned" not in told.err


def test_a_set_is_answered_split_by_split_and_what_the_fit_read_is_named(on: Any) -> None:
    told = on("toys", "--csv")
    found = list(csv.DictReader(io.StringIO(told.out)))
    assert [row["split"] for row in found] == ["train"] * 24 + ["val"] * 8 + ["test"] * 40
    train, val, test = [line for line in told.err.splitlines() if line.startswith("accuracy")]
    assert "24 labelled rows of split train" in train
    assert train.endswith("; the bundle learned from this split")
    assert "8 labelled rows of split val" in val
    assert "38 labelled rows of split test" in test
    assert "learned" not in val + test


def test_rows_answer_as_the_fits_own_test_did(root: Path, on: Any) -> None:
    home = Home(root / "home")
    (line,) = (home.root / "results.jsonl").read_text().splitlines()
    kept = predictions(home, json.loads(line)["row_id"])
    found = [one for one in answers(on("toys/test", "--json")) if one["error"] is None]
    assert [one["image"] for one in found] == list(kept.ids)
    assert [one["class"] for one in found] == [NAMES[k] for k in kept.predicted]


def test_parts_and_blocks_change_nothing(
    bundle: Path, x: Any, tmp_path: Path, on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (
        lambda *form: on("toys", *form),
        lambda *form: of_file(bundle, tmp_path / "x.npz", x, *form, labels=np.zeros(38, int)),
    )
    forms = (("--json", "--top", "2"), ("--csv", "--raw"), ())
    whole = [[ask(*form) for form in forms] for ask in asked]
    monkeypatch.setattr(rows, "MOST_ROWS", 5)
    monkeypatch.setattr(command, "BLOCK", 7)
    cut = [[ask(*form) for form in forms] for ask in asked]
    for before, after in zip(whole, cut, strict=True):
        one, other = ([p["probability"] or 0 for p in answers(told[0])] for told in (before, after))
        np.testing.assert_allclose(one, other, rtol=1e-4)
        assert classes(before[0]) == classes(after[0])
        for told, again in zip(before[1:], after[1:], strict=True):
            assert len(told.out.splitlines()) == len(again.out.splitlines())
            assert told.err == again.err


def test_one_of_three_things_is_asked_for(bundle: Path, on: Any, tmp_path: Path) -> None:
    for words in ((), (tmp_path, "--on", "toys"), ("--on", "toys", "--features", tmp_path / "x")):
        told = cacheclip("predict", bundle, *words)
        assert told.code == 2
        assert "give IMAGES, --features FILE or --on SET: one of the three" in told.err
    for more in (("--on", "toys", "--fetch"), ("--features", "x.npy", "--model", "nano")):
        told = cacheclip("predict", bundle, *more)
        assert told.code == 2
        assert "no encoder runs" in told.err


def test_another_encoders_set_is_refused_and_a_split_that_is_not_there(
    root: Path, bundle: Path, tmp_path: Path, on: Any
) -> None:
    refused(on("toys/all"), 4, "no features of toys/all", "fix: did you mean --on toys/val?")
    refused(on("toy"), 4, "no features of toy", "fix: did you mean --on toys?")
    refused(on("birds/test"), 4, "no features of birds")
    good, out = Bundle.read(bundle), tmp_path / "other.safetensors"
    home = ("--home", root / "home")
    replace(good, encoder=good.encoder | {"pretrained": "v2"}).write(out)
    told = cacheclip("predict", out, "--on", "toys", *home)
    refused(told, 4, "by the encoder asked for", "has toy@v1")
    told = cacheclip("predict", out, "--on", "toys", "--model", "toy", "--pretrained", "v1", *home)
    assert told.code == 0  # the same weights under another name
    replace(good, encoder=good.encoder | {"weights_sha256": "1" * 64}).write(out)
    told = cacheclip("predict", out, "--on", "toys", *home)
    refused(told, 4, "did not make the features", "weights_sha256")
    replace(good, preprocess={"size": [9, 9]}).write(out)
    refused(cacheclip("predict", out, "--on", "toys", *home), 4, "preprocessing")
    replace(good, layers=["pre-projection"]).write(out)
    made = build_home(tmp_path / "home", val=0)
    refused(
        cacheclip("predict", bundle, "--on", "toys/val", "--home", made.root),
        3,
        "there is no split val",
        "has train, test",
    )


def test_a_layer_that_was_not_extracted_is_named_with_what_makes_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.read(root / "b.safetensors")
    of_any_layers = SimpleNamespace(method=methods.get(bundle.method)())
    monkeypatch.setattr(cached, "Classifier", lambda bundle: of_any_layers)
    reads = replace(bundle, layers=["image", "pre-projection"])
    with pytest.raises(StoreError, match="no pre-projection features of split test") as caught:
        list(cached_rows(reads, find_cached(reads, Home(root / "home"), "toys/test")))
    assert "cacheclip extract --dataset toys" in caught.value.fix


def test_a_bundle_of_imported_features_predicts_by_both(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = np.eye(3, 8)[labels] + random.normal(size=(60, 8)) / 3
    file, home, out = tmp_path / "toys.npz", Home(tmp_path / "home"), tmp_path / "b.safetensors"
    names = np.array(["ant", "bee", "cow"])
    split = np.array(["train", "test", "test"])[np.arange(60) // 3 % 3]
    np.savez(file, features=features, labels=labels, split=split, classnames=names)
    import_npz(file, home)
    fit(home.root, out)
    from_file = cacheclip("predict", out, "--features", file, "--json")
    from_cache = cacheclip("predict", out, "--on", "npz/toys", "--home", home.root, "--json")
    by_id = {one["image"]: one for one in answers(from_file)}
    found = answers(from_cache)
    assert len(found) == len(by_id) == 60
    for one in found:
        same = by_id[one["image"]]
        assert [one[name] for name in ("class", "label", "split")] == [
            same[name] for name in ("class", "label", "split")
        ]
    assert "imported features" not in from_cache.err
    assert from_file.err.count("accuracy ") == from_cache.err.count("accuracy ") == 2
    # Other rows of the same encoder, which nobody can know.
    np.savez(file, features=2 * features, labels=labels, split=split, classnames=names)
    import_npz(file, home, "more")
    other = cacheclip("predict", out, "--on", "more/test", "--home", home.root, "--json")
    assert classes(other) == [one["class"] for one in found if one["split"] == "test"]
    assert "imported features: that the bundle's encoder made them is yours to know" in other.err
    np.savez(file, features=features[:, :5], labels=labels, split=split)
    import_npz(file, home, "thin")
    told = cacheclip("predict", out, "--on", "thin", "--home", home.root)
    refused(told, 4, "gives 5 numbers, and the bundle reads 8")


def test_a_bundle_of_pictures_takes_imported_features_when_told_that_they_are_its_own(
    bundle: Path, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    split = np.array(["train", "test", "test"] * 2)
    for name, width in (("same", DIM), ("thin", 5)):
        rows = np.random.default_rng(0).normal(size=(6, width))
        file = tmp_path / f"{name}.npz"
        np.savez(file, features=rows, labels=np.arange(6) // 3, split=split)
        import_npz(file, home)
    words = ("predict", bundle, "--home", home.root, "--on")
    told = cacheclip(*words, "same")
    refused(told, 4, "their encoder is not known")
    option = told.err.rpartition(", add ")[2].split()
    assert len(answers(cacheclip(*words, "same", *option, "--json"))) == 6
    refused(cacheclip(*words, "thin"), 4, f"gives 5 numbers, and the bundle reads {DIM}")


def test_cached_rows_and_their_pictures_get_the_same_class(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    for name, colour in (("blue", (30, 30, 220)), ("green", (30, 200, 30)), ("red", (220, 30, 30))):
        (folder / name).mkdir(parents=True)
        for k in range(5):
            noisy = np.array(colour) + random.normal(0, 60, size=(24, 24, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name / f"{k}.png")
    home, out = tmp_path / "home", tmp_path / "b.safetensors"
    told = cacheclip("extract", "--dataset", folder, "--model", "nano", "--home", home)
    assert told.code == 0, told.err
    fit(home, out)
    cached = answers(cacheclip("predict", out, "--on", folder, "--home", home, "--json"))
    seen = answers(cacheclip("predict", out, folder, "--json"))
    of_picture = {str(Path(one["image"]).relative_to(folder)): one for one in seen}
    assert len(cached) == len(of_picture) == 15
    for one in cached:
        same = of_picture[one["image"]]
        assert (one["class"], one["label"]) == (same["class"], same["label"])
        assert one["probability"] == pytest.approx(same["probability"], abs=1e-3)
