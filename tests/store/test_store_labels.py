"""Labels are a record of their own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cacheclip.errors import StoreError
from cacheclip.store.home import Home

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
