"""`predict` on features of a file: every form that they come in, and what a file cannot be."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.bundle import Bundle
from cacheclip.errors import InputError
from cacheclip.exchange.features_file import FeaturesFile
from cacheclip.inference.given import given_rows
from tests.inference.asking import NAMES, answers, classes, of_file, refused
from tests.makers import DIM, Said, cacheclip


def test_a_file_is_answered_raw_or_of_length_one(
    bundle: Path, x: Any, tmp_path: Path, on: Any
) -> None:
    cached = [one for one in answers(on("toys/test", "--json")) if one["error"] is None]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for file in (of_file(bundle, tmp_path / "x.npy", given, "--json") for given in (x, 7 * unit)):
        found = answers(file)
        assert [one["image"] for one in found] == [str(k) for k in range(len(x))]
        assert [one["class"] for one in found] == [one["class"] for one in cached]
        assert list(found[0]) == ["image", "class", "probability", "top", "error"]
        top = np.array([[p["probability"] for p in one["top"]] for one in found])
        wanted = [[p["probability"] for p in one["top"]] for one in cached]
        np.testing.assert_allclose(top, wanted, atol=2e-3)  # float16 in the store
        assert "accuracy" not in file.err


@pytest.mark.parametrize("given", [np.float16, np.float64, ">f4"])
def test_any_floats_in_any_order_are_read(bundle: Path, x: Any, tmp_path: Path, given: Any) -> None:
    wanted = classes(of_file(bundle, tmp_path / "x.npy", x, "--json"))
    for k, one in enumerate((x.astype(given), np.asfortranarray(x.astype(given)), x[:, None])):
        for name in (f"{k}.npy", f"{k}.npz"):
            assert classes(of_file(bundle, tmp_path / name, one, "--json")) == wanted


def test_labels_ids_and_splits_of_a_file_are_told(bundle: Path, x: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    best = classes(of_file(bundle, file, x, "--json"))
    beside = {
        "sample_ids": np.array([f"photo, {k}" for k in range(len(x))]),
        "split": np.array(["Train", *["test"] * (len(x) - 1)]),
    }
    named = np.array([*best[:-2], "", "yak"])
    told = of_file(bundle, file, x, "--csv", labels=named, **beside)
    found = list(csv.DictReader(io.StringIO(told.out)))
    assert [row["image"] for row in found] == beside["sample_ids"].tolist()
    assert [row["label"] for row in found] == named.tolist()
    assert [row["split"] for row in found] == ["train", *["test"] * (len(x) - 1)]
    assert "accuracy 100.0 % of 1 labelled rows of split train" in told.err
    assert "accuracy 100.0 % of 35 labelled rows of split test" in told.err
    assert "; 1 without a label; 1 of classes that the bundle does not know" in told.err
    # Numbers count the classes that the file names, else those of the bundle.
    other = np.array(["zebu", *reversed(NAMES)])
    numbers = np.array([other.tolist().index(name) for name in best])
    told = of_file(bundle, file, x, labels=numbers, classnames=other)
    assert f"accuracy 100.0 % of {len(x)} labelled rows" in told.err
    numbers = np.array([-1, *(NAMES.index(name) for name in best[1:])], float)[:, None]
    told = of_file(bundle, file, x, labels=numbers)
    assert f"accuracy 100.0 % of {len(x) - 1} labelled rows, " in told.err


def test_arrays_that_come_split_by_split_are_joined(bundle: Path, x: Any, tmp_path: Path) -> None:
    best = classes(of_file(bundle, tmp_path / "x.npy", x, "--json"))
    file = tmp_path / "parts.npz"
    parts = {"X_test": x[5:], "X_train": x[:5], "y_train": np.array(best[:5])}
    np.savez(file, **parts, y_test=np.array(best[5:]))
    told = cacheclip("predict", bundle, "--features", file, "--json")
    assert classes(told) == best
    assert [one["split"] for one in answers(told)] == ["train"] * 5 + ["test"] * (len(x) - 5)
    assert told.err.count("accuracy 100.0 %") == 2


def test_the_forms_are_those_of_pictures(bundle: Path, x: Any, tmp_path: Path) -> None:
    told = of_file(bundle, tmp_path / "x.npy", x[:2], "--top", "2", "--raw")
    head, _, *lines = told.out.splitlines()
    assert head.split() == ["class", "score", "image", "then"]
    assert len(lines) == 2
    told = of_file(bundle, tmp_path / "x.npy", x[:2], "--top", "9", "--csv")
    assert told.out.splitlines()[0].count("class") == 4  # there are no more


def test_a_row_that_is_no_vector_has_an_error_and_the_others_an_answer(
    bundle: Path, x: Any, tmp_path: Path
) -> None:
    bad = x.astype(np.float64)
    bad[0, 3], bad[4, 0], bad[9], bad[11, 1] = np.nan, np.inf, 0, 1e300
    told = of_file(bundle, tmp_path / "x.npy", bad, "--json")
    found = answers(told)
    errors = {k: one["error"] for k, one in enumerate(found) if one["error"]}
    assert list(errors) == [0, 4, 9, 11]
    assert errors[0].startswith("nonfinite: ")
    assert errors[9].startswith("zero: ")
    assert "4 of 38 rows could not be answered" in told.err
    wanted = classes(of_file(bundle, tmp_path / "y.npy", x, "--json"))
    assert [one["class"] for one in found if not one["error"]] == [
        name for k, name in enumerate(wanted) if k not in errors
    ]
    nothing = of_file(bundle, tmp_path / "x.npy", np.full((3, DIM), np.nan), "--json")
    assert (nothing.code, len(json.loads(nothing.out))) == (3, 3)


def test_what_a_file_cannot_be_is_said_in_three_lines(bundle: Path, x: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"

    def ask(x: Any, **beside: Any) -> Said:
        return of_file(bundle, file, x, **beside)

    refused(ask(x[:, :5]), 3, "its rows have 5 numbers, and the bundle reads 16", "toy@v1")
    refused(ask(x.astype(int)), 3, "features = features.astype(np.float32)")
    refused(ask(x[:, :, None]), 3, "its shape is [38, 16, 1]")
    refused(ask(x[:0]), 3, "its shape is [0, 16]")
    refused(ask(x, labels=np.arange(3)), 3, "labels: its shape is [3], and features have 38 rows")
    refused(ask(x, labels=np.full(38, 4)), 3, "go up to 4, and there are 4 classes")
    refused(ask(x, labels=np.eye(38)), 3, "each row has one class")
    refused(ask(x, sample_ids=np.array(["a"])), 3, "sample_ids: its shape is [1]")
    refused(ask(x, labels=np.array([None] * 38)), 3, "objects are pickles")
    np.savez(file, X=x)
    refused(cacheclip("predict", bundle, "--features", file), 3, "fix: features = X")
    np.save(tmp_path / "short.npy", x)
    whole = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-100])
    short = cacheclip("predict", bundle, "--features", tmp_path / "short.npy")
    refused(short, 3, "features cannot be read", "the file holds 2,332")
    (tmp_path / "gone.pt").write_bytes(b"\x80\x02")
    refused(cacheclip("predict", bundle, "--features", tmp_path / "gone.pt"), 3, "PyTorch")
    refused(cacheclip("predict", bundle, "--features", tmp_path / "none"), 3, "no such file")
    reads = replace(Bundle.read(bundle), layers=["image", "patches"])
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InputError, match="reads patches of a picture") as caught:
        list(given_rows(reads, FeaturesFile.open(tmp_path / "x.npy")))
    assert "--on SET" in caught.value.fix


def test_a_damaged_archive_ends_in_three_lines(bundle: Path, x: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, features=np.tile(x, (50, 1)))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    told = cacheclip("predict", bundle, "--features", file)
    assert told.code == 3
    assert "error: features cannot be read: Bad CRC-32" in told.err
