"""What is wrong with arrays is said by name, with the shape or values they should have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.errors import InputError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.exchange.source import OPTIONAL, REQUIRED
from cacheclip.store.home import Home

Save = Callable[..., Path]


def refusal(file: Path, home: Home) -> InputError:
    """The error of an import, which must have written nothing."""
    with pytest.raises(InputError) as caught:
        import_npz(file, home)
    assert not home.root.exists()
    assert str(file) in caught.value.where
    return caught.value


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_array_is_asked_for_by_name_and_shape(name: str, save: Save, home: Home) -> None:
    error = refusal(save(**{name: None}), home)
    assert error.what == f"an array is missing: {name}"
    assert f"{name} {REQUIRED[name]}" in error.fix
    assert "text_features" in error.where  # what is there may be it, by another name


def test_text_without_its_scale_asks_for_the_scale(save: Save, home: Home) -> None:
    assert "100 for OpenAI's CLIP" in refusal(save(logit_scale=None), home).fix


def with_row(value: float) -> Callable[[Any], Any]:
    def change(x: Any) -> Any:
        x = x.copy()
        x[5] = value
        return x

    return change


FAULTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("features", lambda x: x[:, 0], "its shape is [36]"),
    ("features", lambda x: x[:0], "its shape is [0, 8]"),
    ("features", lambda x: x.astype(int), "int64 and not floats"),
    ("features", lambda x: x.astype(complex), "complex128 and not floats"),
    ("features", with_row(np.nan), "1 of 36 rows are not finite: 5"),
    ("features", with_row(-np.inf), "1 of 36 rows are not finite: 5"),
    ("features", lambda x: with_row(1e300)(x.astype(float)), "1 of 36 rows are not finite: 5"),
    ("features", with_row(0), "1 of 36 rows have no length: 5"),
    ("features", lambda x: with_row(1e-300)(x.astype(float)), "1 of 36 rows have no length: 5"),
    ("labels", lambda x: x[:7], "its shape is [7], and features have 36 rows"),
    ("labels", lambda x: x + 0.5, "float64 and not whole numbers: 0.5, 1.5"),
    ("labels", lambda x: x.astype(complex), "complex128 and not whole numbers"),
    ("labels", lambda x: x - 1, "labels from -1 to 1"),
    ("labels", lambda x: x + 1, "label 3, and 3 classes (0 to 2)"),
    ("split", lambda x: np.where(x == "val", "fold 3", x), "no such split: fold 3"),
    ("split", lambda x: np.where(x == "test", "val", x), "no row is test"),
    ("split", lambda x: np.where(x == "train", "val", x), "no row is train"),
    ("split", lambda x: np.ones(36), "float64 and not texts"),
    ("split", lambda x: x[:9], "its shape is [9], and features have 36 rows"),
    ("text_features", lambda x: x[:, :5], "its rows have 5 numbers and it has 3 classes"),
    ("text_features", lambda x: np.vstack([x, x]), "and it has 6 classes"),
    ("text_features", lambda x: x * np.array([[1], [np.nan], [1]]), "1 of 3 rows are not finite"),
    ("text_features", lambda x: x[0], "its shape is [8]"),
    ("classnames", lambda x: np.char.replace(x, "bee", ""), "a name is empty or has a line"),
    ("classnames", lambda x: np.arange(3), "int64 and not texts"),
    ("sample_ids", lambda x: x[[*range(35), 9]], "1 ids stand there more than once: img/9.png"),
    ("sample_ids", lambda x: x[1:], "its shape is [35], and features have 36 rows"),
    ("sample_ids", lambda x: np.char.replace(x, "img/9", "\n"), "an id is empty or has a line"),
    ("sample_ids", lambda x: np.array([b"\xff%d" % k for k in range(36)]), "not texts in UTF-8"),
    ("logit_scale", lambda x: np.array(-3.0), "-3.0 is no scale above 0"),
    ("logit_scale", lambda x: np.array(np.nan), "nan is no scale above 0"),
    ("logit_scale", lambda x: np.ones(2), "float64 [2] is no scale above 0"),
    ("logit_scale", lambda x: np.array("100"), "is no scale above 0"),
]


@pytest.mark.parametrize(("name", "change", "said"), FAULTS)
def test_a_fault_names_the_array_and_what_it_should_be(
    name: str,
    change: Callable[[Any], Any],
    said: str,
    arrays: dict[str, Any],
    save: Save,
    home: Home,
) -> None:
    error = refusal(save(**{name: change(arrays[name])}), home)
    assert error.what.startswith(f"{name}: "), error
    assert said in error.what
    assert error.fix


@pytest.mark.parametrize("name", [*REQUIRED, *OPTIONAL])
def test_pickled_objects_are_never_loaded(name: str, save: Save, home: Home) -> None:
    error = refusal(save(**{name: np.array([{"a": 1}] * 36, dtype=object)}), home)
    assert error.what.startswith(f"{name} cannot be read")
    assert "pickles are not loaded" in error.fix


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("features,labels"),
        lambda file: file.write_bytes(b"PK\x03\x04 cut short"),
    ],
)
def test_what_is_no_npz_file_is_said(
    write: Callable[[Path], Any], tmp_path: Path, home: Home
) -> None:
    write(tmp_path / "x.npz")
    error = refusal(tmp_path / "x.npz", home)
    assert "not a .npz file" in error.what
    assert "pickle" not in str(error)
    assert "np.savez('x.npz', features=features" in error.fix


def test_a_missing_file_and_a_damaged_one_are_said(tmp_path: Path, save: Save, home: Home) -> None:
    assert refusal(tmp_path / "absent.npz", home).what == "there is no such file"
    file = save()
    data = bytearray(file.read_bytes())
    data[300] ^= 1
    file.write_bytes(data)
    assert refusal(file, home).what.startswith("features cannot be read: Bad CRC-32")


def test_what_is_odd_but_usable_is_told(arrays: dict[str, Any], save: Save, home: Home) -> None:
    split = np.where((arrays["labels"] == 2) & (arrays["split"] == "test"), "val", arrays["split"])
    report = import_npz(save(split=split, classname=np.ones(1)), home)
    assert [notice.partition(":")[0] for notice in report.notices] == [
        "left out",
        "1 of 3 classes have no row of split test",
    ]
