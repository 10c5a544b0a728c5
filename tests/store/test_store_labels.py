"""Labels are a record of their own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cacheclip.errors import StoreError
from cacheclip.files.disk import DamagedError, sealed
from cacheclip.store.home import Home, Labels

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe


def test_labels_come_back(build: "Builder", recipe: "type[Recipe]", home: Home) -> None:
    labels = build.labels(recipe(), recipe(split="test", rows=9))
    again = home.labels("folder/pets")
    assert again == labels
    assert again.digest == labels.digest


def test_labels_are_corrected_without_touching_stores(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    build.extract()
    stores = home.root / "stores/folder/pets/train"
    before = {file: file.stat().st_mtime_ns for file in stores.rglob("*")}
    old = home.find()
    file = home.root / "stores/folder/pets/labels.json"
    content = json.loads(file.read_text())
    content["splits"]["train"]["labels"][0] = 2
    file.write_text(json.dumps(content))
    new = home.find()
    assert (old.labels.splits["train"].labels[0], new.labels.splits["train"].labels[0]) == (0, 2)
    assert new.labels.digest != old.labels.digest
    assert new.digest == old.digest
    assert {key: store.digest for key, store in new.images.items()} == {
        key: store.digest for key, store in old.images.items()
    }
    assert {file: file.stat().st_mtime_ns for file in stores.rglob("*")} == before


def test_a_corrected_class_name_needs_other_text_features_and_says_so(
    build: "Builder", home: Home
) -> None:
    build.extract()
    assert home.find().text is not None
    file = home.root / "stores/folder/pets/labels.json"
    file.write_text(file.read_text().replace('"wren"', '"winter wren"'))
    assert home.find().text is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"labels": [0', '"labels": [3'),
        ('"labels": [0', '"labels": [-2'),
        ('"labels": [0', '"labels": ["0"'),
        ('"classnames"', '"names"'),
        ('"ids_sha256"', '"ids"'),
        ('"splits": {', '"splits": [{'),
        ('"labels": [0', '"labels": [false'),
        ('"labels": [0', '"labels": [1.7'),
        ('"labels": [0', '"labels": 7, "x": [0'),
        ('"format": 1', '"format": 2'),
        ('"format": 1, ', ""),
        ('"folder/pets"', '"folder/cars"'),
        ('"wren"', '"cat"'),
        ('["cat", "dog", "wren"]', "[]"),
    ],
)
def test_labels_that_are_none_are_named(
    build: "Builder", recipe: "type[Recipe]", home: Home, old: str, new: str
) -> None:
    build.labels(recipe())
    file = home.root / "stores/folder/pets/labels.json"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(StoreError) as caught:
        home.labels("folder/pets")
    assert caught.value.where == str(file)


def test_no_labels(home: Home, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no labels"):
        home.labels("digits")


def test_labels_are_one_a_sample(build: "Builder", home: Home) -> None:
    """One put in would shift all that follow."""
    build.extract()
    file = home.labels_file("folder/pets")
    whole = file.read_text()
    for split, change, count in (("train", "10, ", 51), ("test", "", 19)):
        begun, _, rest = whole.partition(f'"{split}"')
        labels = rest.replace('"labels": [0, ', f'"labels": [{change and "1, 0, "}', 1)
        file.write_text(begun + f'"{split}"' + labels)
        with pytest.raises(StoreError, match=f"{count} labels for the .. pictures") as caught:
            home.find()
        assert caught.value.fix.startswith(f"correct the file, or: rm {file} && cacheclip extract")


def test_a_correction_by_hand_is_taken_and_said(build: "Builder", home: Home) -> None:
    build.extract()
    file = home.labels_file("folder/pets")
    assert not home.find().labels.corrected
    file.write_text(file.read_text().replace('"labels": [0', '"labels": [1', 1))
    found = home.find()
    assert found.labels.corrected
    assert found.notices[-1] == (
        f"labels and class names of folder/pets were corrected by hand: {file}; for those of the "
        f"data: rm {file} && cacheclip extract --dataset /data/pets --model nano --pretrained v1"
    )
    home.write_labels(found.labels)  # as `extract` does, which keeps them
    assert home.labels("folder/pets").corrected
    build.extract()
    assert not home.find().labels.corrected


def test_labels_of_other_samples_are_no_correction(build: "Builder", home: Home) -> None:
    build.extract()
    file = home.labels_file("folder/pets")
    whole = file.read_text()
    for old, new in (('"ids_sha256": "', '"ids_sha256": "f'), ('"train"', '"trayn"')):
        file.write_text(whole.replace(old, new, 1))
        with pytest.raises(StoreError, match="no features are of the samples of split") as caught:
            home.find()
        assert f"made anew: rm {file} && cacheclip extract" in caught.value.fix


def test_labels_without_a_digest_are_read_as_before(build: "Builder", home: Home) -> None:
    build.extract()
    file = home.labels_file("folder/pets")
    content = json.loads(file.read_text())
    del content["digest"]
    content["splits"]["train"]["labels"][0] = 1
    file.write_text(json.dumps(content))
    assert not home.find().labels.corrected


def test_labels_of_a_newer_version_are_no_damage(build: "Builder", home: Home) -> None:
    build.extract()
    file = home.labels_file("folder/pets")
    newer = json.dumps(sealed(json.loads(file.read_text()) | {"format": 9}))
    file.write_text(newer)
    labels = Labels("folder/pets", ["a", "b"], {})
    for again in (home.find, lambda: home.write_labels(labels)):
        with pytest.raises(StoreError, match="written by a newer cacheclip") as caught:
            again()
        assert not isinstance(caught.value, DamagedError)
        assert file.read_text() == newer
