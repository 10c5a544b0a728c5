"""A second encoder's features beside the first's: the same pictures, in rows, bundles, answers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from cacheclip.api.head import Head
from cacheclip.api.verbs import compare, fit
from cacheclip.bundle import Bundle
from cacheclip.encoders.base import Encoder
from cacheclip.errors import InputError, StoreError, UsageError
from cacheclip.features import Features, load
from cacheclip.inference.pictures import predict
from cacheclip.results import Row
from cacheclip.store.auxiliary import with_aux
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.table import summary
from tests.makers import add_encoder, build_home, cacheclip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with features of the same pictures by two more encoders."""
    root = tmp_path_factory.mktemp("aux")
    home = build_home(root)
    add_encoder(home)
    add_encoder(home, "third", seed=8)
    return root


def rows_of(root: Path, aux: str | None, *methods: str) -> dict[str, Row]:
    data = load("toys", "toy", home=root, aux=aux)
    of = {"amu": {"epochs": 2, "alpha": 20.0}, "gp": {"encoders": 2}}
    own: dict[str, Any] = {name: settings for name, settings in of.items() if name in methods}
    found = compare(methods, data, shots=2, seeds=1, select="fixed", **own)
    return {row.method: row for row in found.rows}


@pytest.fixture
def rows(root: Path) -> dict[str, Row]:
    return rows_of(root, "other", "amu", "gp", "tip-adapter")


def test_a_row_names_the_encoders_that_it_reads(root: Path, rows: Mapping[str, Row]) -> None:
    assert rows["amu"].encoders == rows["gp"].encoders == ["toy@v1", "other@v1"]
    assert rows["tip-adapter"].encoders == ["toy@v1"]
    assert {"train/image", "train/aux:image", "test/aux:image"} <= set(rows["gp"].stores)
    alone = compare("tip-adapter", load(home=root), shots=2, seeds=1, select="fixed").rows[0]
    assert alone.row_id == rows["tip-adapter"].row_id  # the second encoder is nothing to it
    _, cells = summary(list(rows.values()))
    assert [line[0] for line in cells] == ["amu (2 encoders)", "gp (2 encoders)", "tip-adapter"]
    third = rows_of(root, "third@v1", "gp")["gp"]
    assert third.row_id != rows["gp"].row_id
    assert set(rows["gp"].learned or {}) == {"share", "width", "noise_ratio"}


def test_better_features_beside_poor_ones_help(rows: Mapping[str, Row]) -> None:
    zero_shot = rows["gp"].zero_shot_test
    for method in ("amu", "gp"):
        assert (rows[method].top1_test or 0) > (zero_shot or 1) + 0.1, method


def test_without_one_they_are_left_out_and_say_what_makes_it(root: Path) -> None:
    data = load(home=root)
    request = Request(("amu", "tip-adapter"), (2,), (1,), "fixed")
    comparison = Comparison(request, data.source)
    assert [block.method.name for block in comparison.blocks] == ["tip-adapter"]
    assert "no features of a second encoder" in comparison.refusals[0]
    with pytest.raises(StoreError) as error:
        Comparison(Request(("gp",), (2,), (1,), "fixed", {"encoders": [1, 2]}), data.source)
    assert (
        "cacheclip extract --dataset toys --model ViT-B-32 --pretrained openai" in error.value.fix
    )
    assert len(Comparison(Request(("gp",), (2,), (1,), "fixed"), data.source).blocks) == 1


def test_a_second_encoder_that_nothing_reads_is_told(root: Path) -> None:
    data = load("toys", "toy", home=root, aux="other")
    said = Comparison(Request(("gp",), (2,), (1,), "fixed"), data.source).notices
    assert "nothing here reads the second encoder, other@v1: amu does, gp with encoders=2" in said
    both = Request(("gp",), (2,), (1,), "fixed", {"encoders": 2})
    assert not any("second encoder" in line for line in Comparison(both, data.source).notices)


def test_an_encoder_that_is_not_there_or_is_the_first_is_refused(root: Path) -> None:
    home = Home.resolve(root)
    with pytest.raises(StoreError, match="by the second encoder, RN50@openai") as error:
        with_aux(home, home.find(), "RN50@openai")
    assert "extract --dataset toys --model RN50 --pretrained openai" in error.value.fix
    assert "other@v1" in error.value.where
    with pytest.raises(UsageError, match="second encoder is the first, toy@v1") as same:
        with_aux(home, home.find(), "toy")
    assert same.value.fix == "--model other@v1 or --model third@v1"


def test_another_set_has_to_have_the_same_second_encoder(tmp_path: Path) -> None:
    home = build_home(tmp_path)
    add_encoder(home)
    build_home(tmp_path, "wild")
    add_encoder(home)
    add_encoder(home, "third", seed=8)
    data, same, foreign = (
        load(name, "toy", home=tmp_path, aux=aux).source
        for name, aux in (("toys", "other"), ("wild", "other"), ("wild", "third"))
    )
    asked = Request(("amu",), (2,), (1,), "fixed", test_on=(same,))
    assert len(Comparison(asked, data).targets) == 1
    with pytest.raises(UsageError, match="wild has features of another encoder") as error:
        Comparison(replace(asked, test_on=(foreign,)), data)
    assert "third@v1 of 12 numbers, learned from: other@v1" in error.value.where
    assert error.value.fix.endswith("--dataset wild --model other --pretrained v1")


def test_rows_are_found_by_their_ids(root: Path) -> None:
    """Arrays in another order, with pictures that the first has not."""
    second = load("toys", "other", home=root)
    names = second.classnames
    x, y, ids = {}, {}, {}
    for name in second.splits:
        own = getattr(second, name)
        ids[name] = [*own.ids[::-1], "odd/0/0.png"]
        x[name] = np.vstack([own.X[::-1], np.ones((1, 12))])
        y[name] = [names[int(one.split("/")[1])] for one in ids[name]]
    arrays = Features.of(x, y, ids=ids, classnames=names)
    by_arrays, by_name = load(home=root, aux=arrays), load(home=root, aux="other")
    for split_name in ("train", "val", "test"):
        rows = [SetData(d.source, torch.device("cpu"), 10**9) for d in (by_arrays, by_name)]
        found = [d._layers.rows(split_name, "aux:image", [3, 0, 5]) for d in rows]
        torch.testing.assert_close(*found, rtol=0, atol=1e-3)
        norms = [d._layers.rows(split_name, "aux:image-norm", [3, 0, 5]) for d in rows]
        torch.testing.assert_close(*norms, rtol=1e-3, atol=0)  # stored as float16
    odd = [f"{k}.png" for k in range(4)]
    fewer = Features.of(np.ones((4, 12)), names, ids=odd, classnames=names)
    with pytest.raises(StoreError, match="24 of 24 pictures of split train have no features by"):
        load(home=root, aux=fewer)


def test_pictures_that_one_encoder_lacks_are_no_test(tmp_path: Path) -> None:
    add_encoder(build_home(tmp_path), failed=[1, 4])
    row = rows_of(tmp_path, "other", "zero-shot")["zero-shot"]
    assert (row.n_test, row.n_failed) == (38, 2)


@pytest.mark.parametrize("method", ["amu", "gp"])
def test_a_bundle_names_both_and_answers_with_both(root: Path, method: str, tmp_path: Path) -> None:
    words: list[str | Path] = ["--set", "encoders=2"] if method == "gp" else []
    words += ["--method", method, "--shots", "2", "--select", "fixed", "--aux", "other", "--json"]
    file = tmp_path / "head.safetensors"
    words += ["--home", root, "--results", tmp_path, "--out", file]
    told = cacheclip("fit", "--dataset", "toys", *words)
    assert told.code == 0, told.err
    assert "predict" in told.err and "--on toys" in told.err
    row, bundle = json.loads(told.out), Bundle.read(file)
    assert row["encoders"] == ["toy@v1", "other@v1"]
    assert bundle.second is not None
    assert (bundle.encoder["name"], bundle.second.encoder["name"]) == ("toy", "other")
    cached = cacheclip("predict", file, "--on", "toys/test", "--home", root, "--json")
    assert cached.code == 0, cached.err
    answers = json.loads(cached.out)
    right = np.mean([one["class"] == one["label"] for one in answers])
    assert row["top1_test"] == pytest.approx(right)
    data = load("toys", "toy", home=root, aux="other")
    assert Head.load(file).score(data) == pytest.approx(row["top1_test"])

    def encoder(x: Any) -> Encoder:
        fake = SimpleNamespace(
            transform=lambda picture: torch.zeros(3, *picture.size),
            encode_images=lambda pixels: {"image": np.asarray(x, np.float32)},
        )
        return cast(Encoder, fake)

    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    second = load("toys", "other", home=root)
    both = encoder(data.test.X[:3]), encoder(second.test.X[:3])
    found = list(predict(bundle, both[0], paths, 1, second=both[1]))
    for one, other in zip(found, answers, strict=False):
        assert one.top[0][0] == other["class"]
        assert one.top[0][1] == pytest.approx(other["top"][0]["probability"], rel=1e-3)
    np.save(tmp_path / "x.npy", np.ones((2, 16), np.float32))
    refused = cacheclip("predict", file, "--features", tmp_path / "x.npy")
    assert refused.code == 3
    assert f"{method} reads aux:image of a picture" in refused.err


def test_arrays_of_two_encoders_are_fitted_in_python() -> None:
    random = np.random.default_rng(0)
    y, split = np.repeat(np.arange(3), 20), np.tile(["train", "test"], 30)
    centres, others = random.normal(size=(3, 8)), random.normal(size=(3, 5))
    x = centres[y] + random.normal(size=(60, 8))
    second = others[y] + 0.3 * random.normal(size=(60, 5))
    text: dict[str, Any] = {"text": centres, "logit_scale": 50.0}
    data = Features.of(x, y, split=split, aux=second, **text)
    head = fit("gp", data, shots=4, encoders=2)
    assert head.row is not None
    assert head.row.encoders[1].startswith("imported@")
    assert head.score(data) == head.row.top1_test
    rows = x[split == "test"], second[split == "test"], y[split == "test"]
    assert head.score(rows[0], rows[2], aux=rows[1]) == head.row.top1_test
    assert head.predict_proba(rows[0], 3 * rows[1]).shape == (30, 3)
    with pytest.raises(InputError, match="gp reads a second encoder's feature") as lacks:
        head.predict(rows[0])
    assert "head.predict(X, aux=A): A [n, 5]" in lacks.value.fix
    with pytest.raises(InputError, match="aux: 2 rows, and X has 30"):
        head.predict(rows[0], rows[1][:2])
    alone = Features.of(x, y, split=split, **text)
    with pytest.raises(StoreError, match="second encoder") as error:
        head.score(alone)
    assert "aux=A" in error.value.fix
    wide = Features.of(x, y, split=split, aux=np.hstack([second, second]), **text)
    with pytest.raises(InputError, match="10 numbers a row, and the head learned from 5"):
        head.score(wide)
    with pytest.raises(InputError, match="error: aux: "):
        Features.of(x, y, split=split, aux=second.astype(str), **text)


def test_a_bundle_of_one_encoder_says_nothing_of_a_second(root: Path, tmp_path: Path) -> None:
    head = fit("tip-adapter", load("toys", "toy", home=root, aux="other"), shots=2, select="fixed")
    assert head.bundle.aux is None
    file = head.save(tmp_path / "head.safetensors")
    assert b'"aux"' not in file.read_bytes()
    changed = Bundle.read(file)
    wrong = Bundle(**{**vars(changed), "aux": {"encoder": {}, "preprocess": {}}})
    with pytest.raises(InputError, match="which its method does not read"):
        Head(wrong)


@pytest.mark.parametrize("kind", [np.asarray, list, dict])
def test_the_fix_of_bad_rows_of_a_second_encoder_runs(kind: Any) -> None:
    random = np.random.default_rng(0)
    X, y, aux = random.normal(size=(6, 4)), np.arange(6) % 2, random.normal(size=(6, 3))
    aux[4] = np.nan
    here: dict[str, Any] = {"np": np}
    given = [{"train": x} if kind is dict else kind(x) for x in (X, y, aux)]
    names = ("X_train", "y_train", "aux_train") if kind is dict else ("X", "y", "aux")
    here |= dict(zip(names, (X, y, aux) if kind is dict else given, strict=True))
    with pytest.raises(InputError, match="aux: 1 of 6 rows are not finite") as error:
        Features.of(given[0], given[1], aux=given[2])
    exec(error.value.fix, here)
    assert len(Features.of(here["X"], here["y"], aux=here["aux"]).train) == 5


def test_imported_arrays_get_a_second_encoder_in_python_alone(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.arange(8) % 2
    np.savez(tmp_path / "x.npz", features=x, labels=y, split=["train"] * 4 + ["test"] * 4)
    home = Home(tmp_path)
    assert cacheclip("import", tmp_path / "x.npz", "--home", tmp_path).code == 0
    features = home.find()
    assert features.aux_command.endswith("Features.of(X, y, ..., aux=A)")
    with pytest.raises(StoreError, match="by the second encoder, foo") as error:
        with_aux(home, features, "foo")
    assert error.value.fix == features.aux_command
