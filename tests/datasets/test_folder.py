import os
import pickle
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from cacheclip.datasets.base import DataSet, resolve
from cacheclip.datasets.images import ImageError, read_rgb
from cacheclip.errors import InputError

Tree = Callable[[Iterable[str]], Path]


def load(root: Path | str, *, alias: str | None = None, hash_files: bool = False) -> DataSet:
    return resolve(str(root), data_root=Path("nowhere"), alias=alias, hash_files=hash_files)


def classes(*names: str, count: int = 10) -> list[str]:
    return [f"{name}/{n:02d}.png" for name in names for n in range(count)]


def test_class_folders_are_cut_by_hash(tree: Tree) -> None:
    root = tree(classes("wren", "robin", "Owl"))
    birds = load(root)
    assert (birds.id, birds.templates, birds.builtin) == ("folder/birds", "picture", False)
    assert birds.classnames == ("Owl", "robin", "wren")
    assert {name: len(split.ids) for name, split in birds.splits.items()} == {
        "train": 18,
        "val": 6,
        "test": 6,
    }
    for split in birds.splits.values():
        assert [birds.classnames[label] for label in split.labels] == [
            id_.split("/")[0] for id_ in split.ids
        ]
        assert list(split.ids) == sorted(split.ids)
    together = [id_ for split in birds.splits.values() for id_ in split.ids]
    assert sorted(together) == sorted(classes("wren", "robin", "Owl"))
    assert "test and val cut out of all pictures, a fifth" in birds.notices[0]
    assert read_rgb(birds.open("val", 3)).size == (12, 8)


def test_ids_and_splits_survive_a_move_and_another_working_directory(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(classes("wren", "robin"))
    first = load(root)
    monkeypatch.chdir(root.parent)
    assert (
        load("birds") == load("./birds/") == load("folder/birds") == load(f"FOLDER/{root}") == first
    )
    monkeypatch.chdir(root)
    assert load(".") == first
    moved = tmp_path / "elsewhere" / "birds"
    shutil.copytree(root, moved, copy_function=shutil.copy)
    second = load(moved)
    assert second.id == first.id
    for name, split in first.splits.items():
        assert (second.splits[name].ids, second.splits[name].labels) == (split.ids, split.labels)


def test_a_picture_more_moves_no_other_class(tree: Tree) -> None:
    root = tree(classes("wren", "robin"))
    before = load(root)
    tree(["wren/99.png"])
    after = load(root)
    for name, split in before.splits.items():
        robins = [id_ for id_ in split.ids if id_.startswith("robin")]
        assert robins == [id_ for id_ in after.splits[name].ids if id_.startswith("robin")]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_split_folders_and_synonyms(tree: Tree, names: tuple[str, str, str]) -> None:
    root = tree(f"{split}/{id_}" for split in names for id_ in classes("wren", "robin", count=2))
    birds = load(root)
    assert birds.classnames == ("robin", "wren")
    for name, folder in zip(("train", "val", "test"), names, strict=True):
        split = birds.splits[name]
        assert all(id_.startswith(f"{folder}/") for id_ in split.ids)
        assert split.labels == (0, 0, 1, 1)
    assert "its own train, val and test folders" in birds.notices[0]


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (("train",), (12, 4, 4)),
        (("train", "test"), (16, 4, 20)),
        (("train", "val"), (16, 20, 4)),
    ],
)
def test_missing_splits_are_cut_out_of_train(
    tree: Tree, folders: tuple[str, ...], sizes: tuple[int, int, int]
) -> None:
    birds = load(tree(f"{split}/{id_}" for split in folders for id_ in classes("wren", "robin")))
    assert tuple(len(birds.splits[name].ids) for name in ("train", "val", "test")) == sizes
    assert "cut out of train, a fifth of each class" in birds.notices[0]


def test_a_class_called_train_is_a_class(tree: Tree) -> None:
    flat = load(tree(classes("bus", "train", "car")))
    assert flat.classnames == ("bus", "car", "train")


def test_a_class_called_train_with_folders_is_a_class(tree: Tree) -> None:
    nested = load(tree([*classes("bus", "car"), *classes("train/steam", "train/metro")]))
    assert nested.classnames == ("bus", "car", "train")
    assert sum(len(split.ids) for split in nested.splits.values()) == 40


def test_unlabelled_test_pictures_are_ignored_aloud(tree: Tree) -> None:
    birds = load(tree([*(f"train/{id_}" for id_ in classes("wren", "robin")), "test/1.png"]))
    assert birds.classnames == ("robin", "wren")
    assert any("ignored" in notice and "test" in notice for notice in birds.notices[1:])


def test_two_folders_for_one_split(tree: Tree) -> None:
    root = tree(f"{split}/{id_}" for split in ("train", "val", "eval") for id_ in classes("a", "b"))
    with pytest.raises(InputError, match="both val"):
        load(root)


def test_split_folders_without_train(tree: Tree) -> None:
    root = tree(f"{split}/{id_}" for split in ("val", "test") for id_ in classes("a", "b"))
    root = root.rename(root.with_name("my birds"))
    with pytest.raises(InputError, match="without a train folder") as caught:
        load(root)
    assert f"--dataset '{root}/test'" in caught.value.fix


def test_a_class_without_training_pictures(tree: Tree) -> None:
    with pytest.raises(InputError, match="1 of 3 classes have no training pictures: owl"):
        load(
            tree([*(f"train/{id_}" for id_ in classes("a", "b")), "test/owl/1.png", "test/a/1.png"])
        )


def test_small_classes_are_named(tree: Tree) -> None:
    birds = load(tree([*classes("wren", "robin"), "owl/1.png", "owl/2.png"]))
    assert "no val pictures of owl: nothing is chosen" in birds.notices[1]
    birds = load(tree(["thrush/1.png"]))
    assert "no val pictures of owl, thrush; no test pictures of thrush:" in birds.notices[1]


def test_what_counts_as_a_picture(tree: Tree, tmp_path: Path) -> None:
    root = tree([*classes("wren", "robin", count=3), "wren/.hidden.png", ".cache/1.png"])
    (root / "wren" / "UPPER.JPG").write_bytes(b"broken")
    (root / "wren" / "notes.txt").write_text("no picture")
    (root / "empty").mkdir()
    (root / "loose.jpg").write_bytes(b"broken")
    birds = load(root)
    ids = {id_ for split in birds.splits.values() for id_ in split.ids}
    assert ids == {*classes("wren", "robin", count=3), "wren/UPPER.JPG"} - {"loose.jpg"}
    assert any(notice.endswith("no class folders with pictures: empty") for notice in birds.notices)


def test_links_are_followed_once(tree: Tree, tmp_path: Path) -> None:
    root = tree(classes("wren", "robin", count=3))
    elsewhere = tmp_path / "owls"
    shutil.copytree(root / "wren", elsewhere)
    (root / "owl").symlink_to(elsewhere)
    (root / "wren" / "again").symlink_to(root)
    (root / "robin" / "gone.png").symlink_to(tmp_path / "nothing.png")
    birds = load(root)
    assert birds.classnames == ("owl", "robin", "wren")
    ids = {id_ for split in birds.splits.values() for id_ in split.ids}
    assert ids == set(classes("owl", "robin", "wren", count=3))
    assert any("1 file not read: .png 1 (not a regular file)" in line for line in birds.notices)


def test_broken_pictures_stay_rows_and_fail_by_code(tree: Tree) -> None:
    root = tree(classes("wren", "robin", count=5))
    data = (root / "wren/00.png").read_bytes()
    (root / "wren" / "00.png").write_bytes(data[: len(data) // 2])
    (root / "wren" / "01.png").write_bytes(b"not a picture")
    birds = load(root)
    codes = {}
    for name, split in birds.splits.items():
        for row, id_ in enumerate(split.ids):
            try:
                read_rgb(birds.open(name, row))
            except ImageError as error:
                codes[id_] = error.code
    assert codes == {"wren/00.png": "truncated", "wren/01.png": "decode"}


def test_natural_order_is_warned_of(tree: Tree) -> None:
    birds = load(tree(classes("1", "2", "10")))
    assert birds.classnames == ("1", "10", "2")
    assert any("plain string order" in notice for notice in birds.notices)


def test_numbers_of_equal_length_give_no_warning(tree: Tree) -> None:
    birds = load(tree(classes("01", "02", "10")))
    assert len(birds.notices) == 1


def stamps(dataset: DataSet) -> dict[str, str]:
    found: dict[str, str] = {}
    for split in dataset.splits.values():
        assert split.stamps is not None
        found |= zip(split.ids, split.stamps, strict=True)
    return found


def test_stamps_tell_of_a_replaced_picture(tree: Tree) -> None:
    root = tree(classes("wren", "robin", count=3))
    path = root / "wren" / "01.png"
    by_time, by_content = stamps(load(root)), stamps(load(root, hash_files=True))
    info = path.stat()
    assert by_time["wren/01.png"] == f"{info.st_size}:{info.st_mtime_ns}"
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    assert changed(by_time, stamps(load(root))) == {"wren/01.png"}
    assert changed(by_content, stamps(load(root, hash_files=True))) == set()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert changed(by_content, stamps(load(root, hash_files=True))) == {"wren/01.png"}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {id_ for id_ in before if before[id_] != after[id_]}


def test_another_name(tree: Tree) -> None:
    root = tree(classes("wren", "robin"))
    assert load(root, alias="garden 2.0").id == "folder/garden 2.0"
    for name in ("", "a/b", "..", ".hidden", "-", " garden"):
        with pytest.raises(InputError, match="cannot be the name"):
            load(root, alias=name)


@pytest.mark.parametrize(
    ("files", "says", "seen"),
    [
        ([], "no pictures in the folder", "no files at all"),
        (["1.png", "2.png"], "2 pictures lie directly in the folder", ".png 2"),
        (["wren/1.png"], "only one class folder with pictures, 'wren'", ".png 1"),
        (["wren/1.heic", "owl/2.heic", "a.txt"], "no pictures in the folder", ".heic 2, .txt 1"),
    ],
)
def test_folders_that_are_no_data_set(
    tmp_path: Path, files: list[str], says: str, seen: str
) -> None:
    root = tmp_path / "birds"
    root.mkdir()
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(b"content")
    with pytest.raises(InputError, match=says) as caught:
        load(root)
    assert seen in caught.value.where
    assert "PATH/CLASS/PICTURE.jpg" in caught.value.fix


def test_a_name_that_is_not_utf8(tree: Tree) -> None:
    root = tree(classes("wren", "robin"))
    (root / "wren" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"content")
    with pytest.raises(InputError, match="not UTF-8"):
        load(root)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder") as caught:
        load(f"folder/{tmp_path}/none")
    assert caught.value.where == f"{tmp_path}/none"


def test_a_data_set_can_be_sent_to_another_process(tree: Tree) -> None:
    birds = load(tree(classes("wren", "robin")))
    assert pickle.loads(pickle.dumps(birds)) == birds
