"""Folders as people have them: which are splits, which are classes, and what is told."""

import os
import shutil
import socket
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from cacheclip.datasets.base import DataSet, resolve
from cacheclip.errors import InputError, UsageError

Tree = Callable[[Iterable[str]], Path]


def load(root: Path, classes_from: str | None = None, hash_files: bool = False) -> DataSet:
    return resolve(
        str(root), data_root=Path("nowhere"), classes_from=classes_from, hash_files=hash_files
    )


def classes(*names: str, count: int = 5) -> list[str]:
    return [f"{name}/{n}.png" for name in names for n in range(count)]


def flat(folder: str) -> list[str]:
    return [f"{folder}/{n}.png" for n in range(6)]


def sizes(dataset: DataSet) -> dict[str, int]:
    return {name: len(split.ids) for name, split in dataset.splits.items()}


def told(dataset: DataSet, text: str) -> str:
    (line,) = [notice for notice in dataset.notices if text in notice]
    return line


def test_the_first_line_has_the_classes_and_the_sizes(tree: Tree) -> None:
    birds = load(tree(classes("b", "a", "x" * 60, *(f"c{n}" for n in range(8)))))
    assert birds.notices[0].startswith(
        "folder/birds: 11 classes: a, b, c0, c1, c2, c3, c4, c5 and 3 more; "
        "train 33, val 11, test 11: test and val cut"
    )


@pytest.mark.parametrize("folder", ["test1", "test", "Test_Set", "unlabelled_test", "eval", "dev"])
def test_pictures_without_classes_beside_train_are_left_out(tree: Tree, folder: str) -> None:
    root = tree([*(f"train/{id_}" for id_ in classes("a", "b")), *flat(folder)])
    birds = load(root)
    assert (birds.classnames, sizes(birds)) == (("a", "b"), {"train": 6, "val": 2, "test": 2})
    assert "6 pictures" in told(birds, f"cacheclip predict BUNDLE {root / folder}")


def test_archives_that_unpack_into_a_folder_of_their_own_name(tree: Tree) -> None:
    root = tree([*(f"train/train/{id_}" for id_ in classes("a", "b")), *flat("test1/test1")])
    birds = load(root)
    assert (birds.classnames, sum(sizes(birds).values())) == (("a", "b"), 10)
    assert told(birds, f"predict BUNDLE {root / 'test1'}")


def test_a_test_folder_beside_the_classes_is_no_class(tree: Tree) -> None:
    birds = load(tree([*classes("cat", "dog"), *flat("test")]))
    assert birds.classnames == ("cat", "dog")
    assert told(birds, "test is a split by name")
    split = load(tree(f"test/{id_}" for id_ in classes("cat", "dog", count=2)))
    assert split.classnames == ("cat", "dog")
    assert {id_.split("/")[0] for id_ in split.splits["test"].ids} == {"test"}


@pytest.mark.parametrize("other", [["valid", "invalid"], ["train", "bus", "car"]])
def test_words_that_are_things_too_stay_classes(tree: Tree, other: list[str]) -> None:
    assert load(tree(classes(*other))).classnames == tuple(sorted(other))


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([*flat("train"), *flat("test1")], "test1 and train: split folders with pictures, but no"),
        ([*flat("train"), *(f"test/{i}" for i in classes("a", "b"))], "train: split folders with"),
    ],
)
def test_split_folders_without_classes_are_refused(tree: Tree, ids: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        load(tree(ids))
    assert "csv/FILE" in caught.value.fix


def test_each_class_with_split_folders_of_its_own(tree: Tree) -> None:
    ids = [f"{c}/{s}/{n}.png" for c in "ab" for s in ("train", "valid", "test") for n in range(2)]
    birds = load(tree(ids))
    assert (birds.classnames, sizes(birds)) == (("a", "b"), {"train": 4, "val": 4, "test": 4})


TWO = classes("animals/bird", "animals/mammal", "things/car", "things/bird")


def test_two_levels_are_asked_about_and_both_answers_work(tree: Tree) -> None:
    root = tree(TWO)
    with pytest.raises(InputError) as caught:
        load(root)
    assert "2 classes (animals, things) or 4 (animals/bird, " in caught.value.what
    command = f"cacheclip extract --dataset {root} --classes-from"
    assert caught.value.fix == f"{command} top, or: {command} leaf"
    assert load(root, "top").classnames == ("animals", "things")
    assert load(root, "leaf").classnames == ("animals/bird", "car", "mammal", "things/bird")


def test_two_levels_below_splits_and_deeper_ones(tree: Tree) -> None:
    ids = [
        f"{split}/{id_}" for split in ("train", "test") for id_ in classes("a/x/1", "a/y", "b/z")
    ]
    birds = load(tree(ids), "leaf")
    assert birds.classnames == ("1", "y", "z")
    assert sizes(birds) == {"train": 12, "val": 3, "test": 15}


def test_a_folder_in_each_class_is_no_question(tree: Tree) -> None:
    assert load(tree(classes("bird/images", "car/images"))).classnames == ("bird", "car")


def test_folders_below_some_classes_are_told(tree: Tree) -> None:
    birds = load(tree(classes("wren", "robin", "robin/male")))
    assert birds.classnames == ("robin", "wren")
    assert told(birds, "pictures in robin/male count for the class above; --classes-from leaf")


def test_a_folder_around_the_data_set_is_named(tree: Tree) -> None:
    root = tree(classes("set/a", "set/b"))
    with pytest.raises(InputError, match="only one class folder") as caught:
        load(root)
    assert caught.value.fix == f"cacheclip extract --dataset {root / 'set'}"


def test_a_table_in_a_folder_without_classes_is_offered(tree: Tree) -> None:
    root = tree(flat("images"))
    (root / "labels.csv").write_text("path,label\n")
    with pytest.raises(InputError, match="only one class folder") as caught:
        load(root)
    assert caught.value.fix.endswith(f"cacheclip extract --dataset {root / 'labels.csv'}")


def test_classes_from_is_for_folders() -> None:
    with pytest.raises(UsageError, match="no folders that could be classes"):
        resolve("digits", data_root=Path("nowhere"), classes_from="leaf")


def test_what_systems_leave_is_no_class_and_only_files_are_pictures(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = ["@eaDir", "__MACOSX", ".thumbnails", ".ipynb_checkpoints", "#recycle", "lost+found"]
    system += ["$RECYCLE.BIN", "System Volume Information"]
    root = tree([*classes("a", "b", *system, "a/@eaDir"), "a/._0.png"])
    os.mkfifo(root / "a" / "pipe.png")
    (root / "b" / "gone.png").symlink_to("nothing.png")
    (root / "b" / "loop.png").symlink_to("loop.png")
    monkeypatch.chdir(root / "b")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s.png")
        birds = load(root)
    assert (birds.classnames, sum(sizes(birds).values())) == (("a", "b"), 10)
    assert told(birds, "4 files not read: .png 4 (not a regular file)")


def test_names_that_differ_in_unicode_alone_are_one_class(tree: Tree) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    birds = load(tree([*classes("a", composed), f"{decomposed}/x.png", f"{decomposed}/y.png"]))
    assert birds.classnames == ("a", composed)
    assert sum(sizes(birds).values()) == 12
    assert composed in told(birds, "NFC and NFD")


def test_names_that_make_one_prompt_are_told(tree: Tree) -> None:
    birds = load(tree(classes("fire_truck", "fire truck", "bus")))
    assert len(birds.classnames) == 3
    assert "'fire truck' = 'fire_truck'" in told(birds, "cannot tell these classes apart")


@pytest.mark.parametrize("hash_files", [False, True])
def test_copies_stay_in_one_split_and_are_told(tree: Tree, hash_files: bool) -> None:
    root = tree(classes("a", "b", count=10))
    before = load(root)
    for copy in range(4):
        shutil.copy(root / "a" / "0.png", root / "a" / f"copy{copy}.png")
    birds = load(root, hash_files=hash_files)
    own = {"a/0.png", *(f"a/copy{copy}.png" for copy in range(4))}
    assert [own <= set(split.ids) for split in birds.splits.values()].count(True) == 1
    assert "1 picture in 5 files (a/0.png = a/copy0.png" in told(birds, "under several names")
    for split in ("train", "val", "test"):
        theirs = [[i for i in d.splits[split].ids if i[0] == "b"] for d in (before, birds)]
        assert theirs[0] == theirs[1]


def test_copies_in_two_classes_and_in_two_given_splits_are_told(tree: Tree) -> None:
    root = tree(f"{s}/{id_}" for s in ("train", "val", "test") for id_ in classes("a", "b"))
    assert len(load(root).notices) == 1
    shutil.copy(root / "train" / "a" / "0.png", root / "test" / "a" / "again.png")
    shutil.copy(root / "train" / "a" / "1.png", root / "train" / "b" / "again.png")
    birds = load(root)
    assert "1 picture in 2 files (test/a/again.png = train/a/0.png)" in told(
        birds, "the same file in more than one split"
    )
    assert "(train/a/1.png = train/b/again.png)" in told(birds, "in more than one class")
