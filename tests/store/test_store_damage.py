"""A damaged store is an error that names the file, or gives the same data: never other data."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cacheclip.errors import StoreError
from cacheclip.store import hdf5
from cacheclip.store.reader import IncompleteStoreError, Store
from cacheclip.store.text import TextStore

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe

Flip = Callable[[Path, int], None]


def contents(path: Path) -> list[Any]:
    """All that can be read from a store."""
    store = Store.open(path)
    loaded = store.load()
    arrays = [loaded.features.tobytes(), loaded.norm.tobytes(), loaded.ok.tobytes()]
    return [*arrays, store.ids(), store.stamps(), store.failures(), store.key, store.digest]


def text_contents(path: Path) -> list[Any]:
    store = TextStore.open(path)
    return [store.load().tobytes(), store.classnames, store.prompts, store.key, store.digest]


def flips_are_noticed(
    read: Callable[[Path], list[Any]], path: Path, flip: Flip, rounds: int
) -> int:
    """Flip bits one at a time, anywhere in the files that readers read; count the errors."""
    good = read(path)
    files = [*sorted(path.glob("*.h5")), path / "key.json", path / "done.json"]
    generator = random.Random(8)
    errors = 0
    for k in range(rounds):
        file = files[k % len(files)]
        bit = generator.randrange(8 * file.stat().st_size)
        flip(file, bit)
        try:
            found: object = read(path)
        except StoreError as error:
            found = error
        flip(file, bit)
        if isinstance(found, StoreError):
            errors += 1
            assert str(path) in found.where, f"{file.name}, bit {bit}"
        else:
            assert found == good, f"{file.name}, bit {bit}: other data without an error"
    assert read(path) == good
    return errors


def test_a_flipped_bit_is_an_error_or_changes_nothing(store: Store, flip: Flip) -> None:
    assert flips_are_noticed(contents, store.path, flip, 300) > 100


def test_a_flipped_bit_in_text_features_is_an_error_or_changes_nothing(
    build: "Builder", recipe: "type[Recipe]", flip: Flip
) -> None:
    store = build.text(recipe())
    assert flips_are_noticed(text_contents, store.path, flip, 100) > 30


def test_every_bit_of_the_vectors_is_checked(store: Store, flip: Flip) -> None:
    shard = store.path / "shard-00001.h5"
    stored = store.load(normalize=False).features[16:32].astype(np.float16).tobytes()
    start = shard.read_bytes().index(stored)
    generator = random.Random(3)
    for _ in range(60):
        bit = 8 * start + generator.randrange(8 * len(stored))
        flip(shard, bit)
        with pytest.raises(StoreError) as caught:
            store.load()
        assert caught.value.where == str(shard)
        flip(shard, bit)


def test_some_rows_are_read_without_the_damage_of_others_and_never_with_their_own(
    tmp_path: Path, recipe: "type[Recipe]", flip: Flip
) -> None:
    """Of a shard's three chunks of 128 rows only those that hold a wanted row are read."""
    store = recipe(rows=300, dim=4096, rows_per_shard=300).write(tmp_path / "s")
    assert store is not None
    shard = store.path / "shard-00000.h5"
    good = store.load(normalize=False)
    starts = [
        shard.read_bytes().index(good.features[row].astype(np.float16).tobytes())
        for row in (0, 128, 256)
    ]
    for chunk, start in enumerate(starts):
        flip(shard, 8 * start + 12345)
        for rows in ([0, 127], [128, 255], [256, 299], [0, 299], [127, 128]):
            if chunk in {row // 128 for row in rows}:
                with pytest.raises(StoreError) as caught:
                    store.read_rows(rows)
                assert caught.value.where == str(shard)
            else:
                read = store.read_rows(rows)
                np.testing.assert_array_equal(read.features, good.features[rows])
        flip(shard, 8 * start + 12345)


def test_a_vector_that_does_not_have_its_norm_is_damage(
    tmp_path: Path, recipe: "type[Recipe]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a checksum cannot see: the vectors were wrong before they were summed up."""
    real = hdf5.file_image

    def tampered(arrays: dict[str, Any], attributes: dict[str, int | str]) -> bytes:
        if "features" in arrays:
            arrays = {**arrays, "features": arrays["features"] * np.float16(1.01)}
        return real(arrays, attributes)

    monkeypatch.setattr(hdf5, "file_image", tampered)
    store = recipe().write(tmp_path / "s")
    assert store is not None
    with pytest.raises(StoreError, match="row 0 does not have the norm"):
        store.load()


def test_a_truncated_shard_is_named_before_any_is_read(store: Store) -> None:
    shard = store.path / "shard-00002.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StoreError, match="damaged") as caught:
        Store.open(store.path)
    assert caught.value.where == str(shard)
    assert caught.value.fix.startswith(f"rm {shard} && cacheclip extract --dataset /data/pets")


def test_a_deleted_shard_is_named(store: Store) -> None:
    shard = store.path / "shard-00002.h5"
    shard.unlink()
    for read in (lambda: Store.open(store.path), store.load):
        with pytest.raises(StoreError, match="missing") as caught:
            read()
        assert caught.value.where == str(shard)
        assert (
            caught.value.fix
            == "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
        )


def test_two_swapped_shards_are_named(tmp_path: Path, recipe: "type[Recipe]") -> None:
    store = recipe(rows=64, failed=()).write(tmp_path / "s")
    assert store is not None
    one, other, aside = (store.path / f"shard-0000{k}.h5" for k in (0, 1, 9))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert one.stat().st_size == other.stat().st_size  # so only what is in them can tell
    with pytest.raises(StoreError, match="damaged: its shard is 1, not 0") as caught:
        Store.open(store.path).load()
    assert caught.value.where == str(one)


def test_a_shard_of_another_store_is_named(
    store: Store, tmp_path: Path, recipe: "type[Recipe]"
) -> None:
    other = recipe(seed=8).write(tmp_path / "other")
    assert other is not None
    shutil.copy(other.path / "shard-00001.h5", store.path / "shard-00001.h5")
    with pytest.raises(StoreError, match="content_sha256") as caught:
        Store.open(store.path).load()
    assert caught.value.where == str(store.path / "shard-00001.h5")


@pytest.mark.parametrize("name", ["key.json", "done.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"key": 1, "shards": [1]}'])
def test_json_that_is_something_else_is_named(store: Store, name: str, text: str) -> None:
    (store.path / name).write_text(text)
    with pytest.raises(StoreError) as caught:
        Store.open(store.path)
    assert caught.value.where == str(store.path / name)


def test_a_key_edited_by_hand_is_refused_and_its_info_is_not(store: Store) -> None:
    file = store.path / "key.json"
    content = json.loads(file.read_text())
    content["info"] = {"note": "copied from the old machine"}
    file.write_text(json.dumps(content))
    assert Store.open(store.path).digest == store.digest
    content["key"]["encoder"]["quickgelu"] = True
    file.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="digest"):
        Store.open(store.path)


def test_a_store_of_another_format_says_so(store: Store) -> None:
    file = store.path / "key.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(StoreError, match="format 2"):
        Store.open(store.path)


def test_an_incomplete_store_says_how_far_it_got(tmp_path: Path, recipe: "type[Recipe]") -> None:
    recipe().write(tmp_path / "s", shards=3)
    with pytest.raises(IncompleteStoreError, match="3 of 4 shards done") as caught:
        Store.open(tmp_path / "s")
    assert (caught.value.done, caught.value.total, caught.value.exit_code) == (3, 4, 4)


def test_no_store_at_all(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        Store.open(tmp_path / "none")
