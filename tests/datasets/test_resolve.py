import importlib
import multiprocessing
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import cacheclip.datasets
from cacheclip.datasets.base import FILES, DataSet, available, resolve
from cacheclip.datasets.images import read_rgb
from cacheclip.errors import InputError, UsageError
from cacheclip.prompts.templates import FAMILIES


def load(name: str, *, alias: str | None = None) -> DataSet:
    return resolve(name, data_root=Path("nowhere"), alias=alias)


def test_every_file_of_the_folder_is_a_data_set_or_machinery() -> None:
    stems = {path.stem for path in Path(cacheclip.datasets.__path__[0]).glob("[a-z]*.py")}
    assert stems >= FILES.besides
    names = []
    for stem in stems - FILES.besides:
        module = importlib.import_module(f"cacheclip.datasets.{stem}")
        assert callable(module.load)
        names += module.NAMES
    assert available() == sorted(names)
    assert {"clipart", "digits", "food101", "folder/PATH", "csv/FILE"} <= set(names)


@pytest.mark.parametrize(("name", "near"), [("Clipart", "clipart"), ("food-101", "food101")])
def test_a_near_name_is_offered(name: str, near: str) -> None:
    with pytest.raises(UsageError, match="there is no data set") as caught:
        load(name)
    assert f"did you mean {near}?" in caught.value.fix


@pytest.mark.parametrize(
    "name",
    ["", "folder", "folder/", "torch/", "/", "base", "images", "torch/clipart", "tfds/mnist"],
)
def test_what_does_not_exist(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, UsageError)):
        load(name)


def test_an_unknown_prefix_lists_what_exists() -> None:
    with pytest.raises(UsageError) as caught:
        load("hfds/ethz/food101")
    for name in available():
        assert name in caught.value.fix


def test_a_file_and_a_wrong_path(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("path,label\n")
    with pytest.raises(InputError, match="is a file"):
        load(str(tmp_path / "list.txt"))
    with pytest.raises(InputError, match="there is no folder"):
        load(f"{tmp_path}/gone")


def test_a_name_goes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    digits = load("digits")
    assert digits.id == "digits"
    assert "./digits" in digits.notices[0]
    with pytest.raises(InputError, match="no pictures"):
        load("./digits")


def test_only_folders_can_be_renamed() -> None:
    with pytest.raises(UsageError, match="cannot be renamed"):
        load("clipart", alias="drawings")


def test_clipart() -> None:
    clipart = load("clipart")
    assert (clipart.id, clipart.builtin, clipart.root) == ("clipart", True, None)
    assert len(clipart.classnames) == 20
    assert sum(len(split.ids) for split in clipart.splits.values()) == 977
    train, val = (Counter(clipart.splits[name].labels) for name in ("train", "val"))
    assert set(train.values()) == {20}
    assert set(val.values()) == {4}
    assert len(train) == len(val) == 20
    assert len(set().union(*(split.ids for split in clipart.splits.values()))) == 977
    for split in clipart.splits:
        picture = read_rgb(clipart.open(split, 7))
        assert picture.size == (96, 96)
    assert pickle.loads(pickle.dumps(clipart)) == clipart


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 on fork beside threads
def test_clipart_can_be_read_by_several_processes_at_once() -> None:
    clipart = load("clipart")
    alone = [read_rgb(clipart.open("test", row)).tobytes() for row in range(200)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        together = pool.starmap(clipart.open, [("test", row) for row in range(200)], chunksize=1)
    assert [read_rgb(source).tobytes() for source in together] == alone


def test_digits() -> None:
    digits = load("digits")
    assert digits.classnames[:3] == ("zero", "one", "two")
    assert digits == load("digits")
    sizes = {name: len(split.ids) for name, split in digits.splits.items()}
    assert sum(sizes.values()) == 1797
    assert abs(sizes["val"] - 1797 / 5) < 5 and abs(sizes["test"] - 1797 / 5) < 5
    assert all(type(label) is int for label in digits.splits["train"].labels)
    source = digits.open("train", 0)
    assert isinstance(source, np.ndarray)
    assert source.shape == (8, 8)
    assert source.dtype == np.uint8
    assert read_rgb(source).size == (8, 8)
    # Row 0 of scikit-learn's data is a zero: a hole in the middle, ink around it.
    split = next(name for name, part in digits.splits.items() if "0000" in part.ids)
    row = digits.splits[split].ids.index("0000")
    picture = np.asarray(digits.open(split, row))
    assert digits.splits[split].labels[row] == 0
    assert picture.max() > 230
    assert picture[3:5, 3:5].max() < 140


def test_each_data_set_names_a_family_of_templates() -> None:
    for name in ("clipart", "digits"):
        assert load(name).templates in FAMILIES
