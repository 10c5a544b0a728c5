import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cacheclip.datasets.splits import hash_rank, hash_split, read_coop_split
from cacheclip.errors import InputError


def test_rank_is_sha256_of_the_id() -> None:
    ids = [f"class/{n}é.jpg" for n in range(50)]
    by_hex = sorted(ids, key=lambda name: hashlib.sha256(name.encode("utf-8")).hexdigest())
    assert hash_rank(ids) == hash_rank(reversed(ids)) == by_hex


@pytest.mark.parametrize(
    ("size", "train", "val", "test"),
    [
        (1, 1, 0, 0),
        (2, 1, 0, 1),
        (3, 1, 1, 1),
        (7, 5, 1, 1),
        (8, 4, 2, 2),
        (10, 6, 2, 2),
        (100, 60, 20, 20),
    ],
)
def test_fifths_within_each_class(size: int, train: int, val: int, test: int) -> None:
    ids = [f"a/{n}" for n in range(size)] + [f"b/{n}" for n in range(10)]
    labels = [0] * size + [1] * 10
    parts = hash_split(ids, labels)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(size + 10))
    counts = {name: sum(labels[row] == 0 for row in rows) for name, rows in parts.items()}
    assert counts == {"train": train, "val": val, "test": test}


def test_a_sample_keeps_its_part_whatever_the_order_and_the_other_classes() -> None:
    ids = [f"a/{n}" for n in range(23)]
    parts = hash_split(ids, [0] * 23)
    turned = hash_split(["b/1", *reversed(ids)], [1] + [0] * 23)
    names = ["b/1", *reversed(ids)]
    for part, rows in parts.items():
        assert {ids[row] for row in rows} == {names[row] for row in turned[part]} - {"b/1"}


def good() -> dict[str, Any]:
    return {
        "train": [["pho/2.jpg", 1, "pho"], ["pie/1.jpg", 0, "apple_pie"], ["pho/1.jpg", 1, "pho"]],
        "val": [["pie/2.jpg", 0, "apple_pie"]],
        "test": [["pho/3.jpg", 1, "pho"]],
    }


@pytest.mark.parametrize("packed", [False, True])
def test_coop_split_keeps_order_and_names(tmp_path: Path, packed: bool) -> None:
    text = json.dumps(good()).encode()
    path = tmp_path / ("split.json.gz" if packed else "split.json")
    path.write_bytes(gzip.compress(text) if packed else text)
    coop = read_coop_split(path)
    assert coop.classnames == ("apple_pie", "pho")
    assert coop.splits["train"].ids == ("pho/2.jpg", "pie/1.jpg", "pho/1.jpg")
    assert coop.splits["train"].labels == (1, 0, 1)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (["/etc/passwd", 0, "apple_pie"], "leaves the image folder"),
        (["pie/../../x.jpg", 0, "apple_pie"], "leaves the image folder"),
        (["..\\x.jpg", 0, "apple_pie"], "leaves the image folder"),
        (["pho/1.jpg", 1, "pho"], "occurs twice"),
        (["new.jpg", 1, "noodles"], "also called 'pho'"),
        (["new.jpg", 5, "noodles"], "labels up to 5"),
        (["new.jpg", True, "pho"], "not \\[path"),
        (["new.jpg", 1], "not \\[path"),
        ("new.jpg", "not \\[path"),
    ],
)
def test_faulty_items_are_named(tmp_path: Path, item: object, says: str) -> None:
    content = good()
    content["test"].append(item)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        read_coop_split(path)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"train": []}', '{"train": 1, "val": [], "test": []}']
)
def test_faulty_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(InputError, match="split file") as caught:
        read_coop_split(path)
    assert caught.value.where == str(path)


def test_a_cut_off_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "split.json.gz"
    path.write_bytes(gzip.compress(json.dumps(good()).encode())[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read_coop_split(path)


def test_copies_are_never_parted() -> None:
    ids = [f"a/{n}" for n in range(30)] + [f"b/{n}" for n in range(20)]
    labels = [0] * 30 + [1] * 20
    copies = [[n + 6 * k for k in range(5)] for n in range(6)]
    parts = hash_split(ids, labels, copies=copies)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(50))
    part_of = {row: name for name, rows in parts.items() for row in rows}
    assert all(len({part_of[row] for row in group}) == 1 for group in copies)
    sizes = {name: sum(row < 30 for row in rows) for name, rows in parts.items()}
    assert sizes == {"train": 20, "val": 5, "test": 5}
    alone = hash_split(ids, labels)
    assert {name: {row for row in rows if row >= 30} for name, rows in parts.items()} == {
        name: {row for row in rows if row >= 30} for name, rows in alone.items()
    }


def test_copies_with_two_labels_fill_train_first_and_leave_fifths() -> None:
    ids = [f"{name}/{n}" for name in "ab" for n in range(10)]
    labels = [0] * 10 + [1] * 10
    few = [[n, n + 10] for n in range(3)]
    parts = hash_split(ids, labels, copies=few)
    assert {row for group in few for row in group} <= set(parts["train"])
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 12, "val": 4, "test": 4}
    parts = hash_split(ids, labels, copies=[[n, n + 10] for n in range(10)])
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 12, "val": 4, "test": 4}
    for rows in parts.values():
        assert {row + 10 for row in rows if row < 10} == {row for row in rows if row >= 10}


@pytest.mark.parametrize(
    ("copies", "sizes"),
    [
        ([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], {"train": 5, "val": 0, "test": 5}),
        ([list(range(10))], {"train": 10, "val": 0, "test": 0}),
        ([list(range(8))], {"train": 8, "val": 1, "test": 1}),
    ],
)
def test_a_class_of_few_different_pictures(copies: list[list[int]], sizes: dict[str, int]) -> None:
    parts = hash_split([f"a/{n}" for n in range(10)], [0] * 10, copies=copies)
    assert {name: len(rows) for name, rows in parts.items()} == sizes
