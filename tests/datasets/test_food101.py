import contextlib
import functools
import hashlib
import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cacheclip.datasets.base import DataSet, resolve
from cacheclip.datasets.images import read_rgb
from cacheclip.errors import InputError


def write_coop(food: Path) -> dict[str, list[list[object]]]:
    """A CoOp split of the same pictures: other splits, shuffled, labels in order of the names."""
    names = ["apple_pie", "pho", "waffles"]
    split: dict[str, list[list[object]]] = {"train": [], "val": [], "test": []}
    for label in (2, 0, 1):
        folder = food / "food-101" / "images" / names[label]
        numbers = sorted((path.name for path in folder.iterdir()), reverse=True)
        for k, number in enumerate(numbers):
            part = ("train", "train", "val", "test")[k % 4]
            split[part].append([f"{names[label]}/{number}", label, names[label]])
    (food / "food-101" / "split_zhou_Food101.json").write_text(json.dumps(split))
    return split


def rows(dataset: DataSet) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    return {name: (split.ids, split.labels) for name, split in dataset.splits.items()}


def test_official_split_with_val_cut_out_of_train(food: Path) -> None:
    data = resolve("food101", data_root=food)
    assert (data.id, data.templates, data.builtin) == ("torch/food101", "food101", True)
    assert data.classnames == ("apple_pie", "pho", "waffles")
    assert [len(data.splits[name].ids) for name in ("train", "val", "test")] == [24, 6, 12]
    assert data.splits["val"].labels == (0, 0, 1, 1, 2, 2)
    official = (food / "food-101" / "meta" / "test.txt").read_text().split()
    assert set(data.splits["test"].ids) == {f"{line}.jpg" for line in official}
    assert len(data.notices) == 1
    assert "val 20 %" in data.notices[0]
    assert not resolve("torch/food101", data_root=food).notices
    assert read_rgb(data.open("test", 4)).mode == "RGB"


def test_labels_are_those_of_torchvision(food: Path) -> None:
    from torchvision.datasets import Food101

    theirs = Food101(food, split="test")
    official = {
        f"{path.parent.name}/{path.name}": label
        for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    }
    test = resolve("torch/food101", data_root=food).splits["test"]
    assert dict(zip(test.ids, test.labels, strict=True)) == official


def test_text_and_json_lists_give_the_same_rows(food: Path) -> None:
    by_text = rows(resolve("torch/food101", data_root=food))
    for split in ("train", "test"):
        (food / "food-101" / "meta" / f"{split}.txt").unlink()
    assert rows(resolve("torch/food101", data_root=food)) == by_text


def test_coop_split_where_its_file_lies(food: Path) -> None:
    split = write_coop(food)
    data = resolve("food101", data_root=food)
    assert data.id == "coop/food101"
    assert not data.notices
    assert data.classnames == ("apple_pie", "pho", "waffles")
    for name, items in split.items():
        assert list(data.splits[name].ids) == [item[0] for item in items]
        assert list(data.splits[name].labels) == [item[1] for item in items]
    assert resolve("torch/food101", data_root=food).id == "torch/food101"
    assert rows(resolve("COOP/food101", data_root=food)) == rows(data)


def test_coop_asked_for_without_its_file(food: Path) -> None:
    with pytest.raises(InputError, match="split file is missing") as caught:
        resolve("coop/food101", data_root=food)
    assert "torch/food101" in caught.value.fix


@pytest.mark.parametrize("name", ["food101", "Food101"])
def test_other_folder_names_and_another_place(
    food: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rows(resolve("food101", data_root=food))
    assert rows(resolve("food101", data_root=food / "food-101")) == first
    moved = tmp_path / "moved"
    moved.mkdir()
    (food / "food-101").rename(moved / name)
    monkeypatch.chdir(moved)
    data = resolve("food101", data_root=Path())
    assert rows(data) == first
    assert read_rgb(data.open("val", 0)).size == (12, 8)


def test_no_data_says_what_was_tried_and_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve("food101", data_root=tmp_path)
    error = caught.value
    assert error.exit_code == 3
    assert len(str(error).splitlines()) == 3
    assert str(tmp_path) in error.where
    for name in ("food-101", "food101", "Food101"):
        assert f"{name}/images" in error.where
    for told in ("--download", "--data-root", "$CACHECLIP_DATA", "food-101/images"):
        assert told in error.fix


def test_missing_pictures_are_counted(food: Path) -> None:
    for number in sorted((food / "food-101/images/pho").iterdir())[:6]:
        number.unlink()
    with pytest.raises(
        InputError, match=r"6 of 42 pictures are missing: pho/1000\.jpg, "
    ) as caught:
        resolve("food101", data_root=food)
    assert caught.value.what.endswith(", ...")


@pytest.mark.parametrize("folder", ["food-101", "food101"])
@pytest.mark.parametrize("lost", ["images/pho/1000.jpg", "meta/train.txt"])
def test_the_commands_that_bring_lost_files_back_touch_nothing_else(
    food: Path, tmp_path: Path, folder: str, lost: str
) -> None:
    before = rows(resolve("food101", data_root=food))
    with tarfile.open(tmp_path / "food-101.tar.gz", "w:gz") as packed:
        packed.add(food / "food-101", "food-101")
    root = tmp_path / "my data" / folder
    shutil.copytree(food / "food-101", root)
    (root / "split_of_my_own.json").write_text("{}")
    (root / lost).unlink()
    (root / "meta" / "train.json").unlink()
    with pytest.raises(InputError) as caught:
        resolve("food101", data_root=root.parent)
    command = re.search(r"tar [^;]*", caught.value.fix)
    assert command is not None
    subprocess.run(shlex.split(command[0]), check=True, cwd=tmp_path)
    assert rows(resolve("food101", data_root=root.parent)) == before
    assert (root / "split_of_my_own.json").exists()
    assert f"--data-root '{root.parent}'" in caught.value.fix


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("train.txt", "../../secret/1\n", "not CLASS/NUMBER"),
        ("train.txt", "apple_pie\n", "not CLASS/NUMBER"),
        ("train.txt", "pho/1000\n", "differ in 2 classes: apple_pie, waffles"),
        ("test.txt", "pho/1000\npho/1000\napple_pie/1000\nwaffles/1000\n", "listed twice"),
    ],
)
def test_faulty_lists(food: Path, file: str, text: str, says: str) -> None:
    (food / "food-101" / "meta" / file).write_text(text)
    with pytest.raises(InputError, match=says):
        resolve("food101", data_root=food)


def test_no_lists_at_all(food: Path) -> None:
    for path in (food / "food-101" / "meta").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no list of the train pictures"):
        resolve("food101", data_root=food)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """Serves a folder on this machine and gives its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.ExitStack() as running:

        def start(folder: Path) -> str:
            handler = functools.partial(Quiet, directory=str(folder))
            server = running.enter_context(
                http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            )
            threading.Thread(target=server.serve_forever, daemon=True).start()
            running.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/"

        yield start


@pytest.mark.filterwarnings("ignore:.*filter extracted tar:DeprecationWarning")  # Python 3.12's
def test_download_fetches_and_resolves(
    food: Path,
    tmp_path: Path,
    serve: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from torchvision.datasets import Food101

    archive = tmp_path / "served" / "food-101.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(food / "food-101", "food-101")
    monkeypatch.setattr(Food101, "_URL", serve(archive.parent) + archive.name)
    monkeypatch.setattr(Food101, "_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    fresh = tmp_path / "fresh"
    data = resolve("food101", data_root=fresh, download=True)
    assert rows(data) == rows(resolve("food101", data_root=food))
    archive.unlink()
    assert rows(resolve("food101", data_root=fresh, download=True)) == rows(data)
    assert capsys.readouterr().out == ""


def test_download_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens on "discard"
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        resolve("food101", data_root=tmp_path / "data", download=True)
    assert caught.value.exit_code == 3
    assert "food-101.tar.gz" in caught.value.fix


@pytest.mark.parametrize("present", [True, False])
def test_neither_data_nor_their_lack_loads_torch(food: Path, present: bool) -> None:
    program = f"""
import sys
from pathlib import Path
from cacheclip.datasets.base import resolve
from cacheclip.errors import InputError
try:
    print(resolve("food101", data_root=Path({str(food if present else food / "none")!r})).id)
except InputError as error:
    print(error)
heavy = {{"torch", "torchvision", "sklearn", "open_clip"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("torch/food101" if present else "is not on this machine") in done.stdout
