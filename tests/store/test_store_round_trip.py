"""What is written is what is read, and nothing but the input decides the bytes."""

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from cacheclip.store.reader import Store
from cacheclip.store.schema import Failure

if TYPE_CHECKING:
    from tests.store.conftest import Recipe


def test_every_row_comes_back(store: Store, recipe: "type[Recipe]") -> None:
    made = recipe()
    loaded = store.load(normalize=False)
    good = np.setdiff1d(np.arange(made.rows), made.failed)
    assert loaded.features.dtype == np.float32
    assert np.flatnonzero(~loaded.ok).tolist() == list(made.failed)
    rounded = made.features.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(loaded.features[good], rounded[good])
    np.testing.assert_allclose(loaded.norm[good], np.linalg.norm(made.features[good], axis=1), 1e-6)
    assert store.ids() == made.ids
    assert store.stamps() == made.stamps


def test_unit_rows_are_unit_to_rounding_and_failed_rows_are_zero(store: Store) -> None:
    loaded = store.load()
    np.testing.assert_allclose(np.linalg.norm(loaded.features[loaded.ok], axis=1), 1, rtol=1e-6)
    assert not loaded.features[~loaded.ok].any()
    assert not loaded.norm[~loaded.ok].any()


def test_a_failed_row_keeps_its_place_its_code_and_its_reason(
    tmp_path: Path, recipe: "type[Recipe]"
) -> None:
    made = recipe(rows=20, failed=())
    long = "é" * 300
    with made.writer(tmp_path / "s") as writer:
        first, second = writer.missing
        writer.write(first, made.features[:16], [Failure(5, "truncated", long)])
        writer.write(second, made.features[16:], [Failure(17, "missing", "no such file")])
        store = writer.finish()
    assert store.failed == 2
    assert store.failures() == [
        Failure(5, "truncated", "é" * 100),
        Failure(17, "missing", "no such file"),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 70000.0, 1e-9])
def test_a_vector_that_float16_cannot_hold_fails_and_is_never_clipped(
    tmp_path: Path, recipe: "type[Recipe]", bad: float
) -> None:
    made = recipe(rows=16, failed=())
    features = made.features
    features[4] = bad
    with made.writer(tmp_path / "s") as writer:
        writer.write(writer.missing[0], features)
        store = writer.finish()
    assert [(f.row, f.code) for f in store.failures()] == [(4, "nonfinite")]
    assert store.load().ok.tolist() == [row != 4 for row in range(16)]


def test_float32_stores_hold_what_float16_cannot(tmp_path: Path, recipe: "type[Recipe]") -> None:
    made = recipe(rows=16, failed=(), store_dtype="float32")
    features = made.features
    features[4] = 70000.0
    with made.writer(tmp_path / "s") as writer:
        writer.write(writer.missing[0], features)
        store = writer.finish()
    np.testing.assert_array_equal(store.load(normalize=False).features, features)


def test_some_rows_can_be_read_in_any_order(store: Store) -> None:
    everything = store.load(normalize=False)
    rows = [49, 0, 15, 16, 3, 49]
    some = store.read_rows(rows)
    np.testing.assert_array_equal(some.features, everything.features[rows])
    np.testing.assert_array_equal(some.norm, everything.norm[rows])
    np.testing.assert_array_equal(some.ok, everything.ok[rows])
    assert len(store.read_rows([]).features) == 0
    for beyond in (50, -1):
        with pytest.raises(IndexError):
            store.read_rows([3, beyond])


@pytest.mark.parametrize("dim", [1, 24, 3000])
def test_some_rows_are_bit_for_bit_those_of_all(
    tmp_path: Path, recipe: "type[Recipe]", dim: int
) -> None:
    """At 3,000 numbers a row a shard has two chunks."""
    made = recipe(rows=400, dim=dim, rows_per_shard=250)
    store = made.write(tmp_path / "s")
    assert store is not None
    random = np.random.default_rng(dim)
    for normalize in (True, False):
        everything = store.load(normalize=normalize)
        for count in (1, 2, 7, 399, 400):
            rows = random.permutation(made.rows)[:count]
            some = store.read_rows(rows, normalize=normalize)
            np.testing.assert_array_equal(some.features, everything.features[rows])


def test_a_shard_of_copied_rows_is_the_shard_of_encoded_rows(
    tmp_path: Path, store: Store, recipe: "type[Recipe]"
) -> None:
    made = recipe()
    old = store.read_rows(range(16))
    features, norm = made.features[:16], np.full(16, np.nan, np.float32)
    copied = [0, 1, 2, 8, 9, 15]
    features[copied], norm[copied] = old.features[copied], old.norm[copied]
    with made.writer(tmp_path / "copy") as writer:
        spec = writer.missing[0]
        writer.write(spec, features, made.failures[:1], norm=norm)
    copy = tmp_path / "copy" / spec.file
    assert copy.read_bytes() == (store.path / spec.file).read_bytes()


def test_shards_do_not_depend_on_time_process_or_interruption(
    tmp_path: Path, store: Store, recipe: "type[Recipe]"
) -> None:
    time.sleep(1.1)  # a date in seconds would differ from here on
    made, other = recipe(), tmp_path / "other"
    made.write(other, shards=2)
    script = Path(__file__).parent / "victim.py"
    subprocess.run([sys.executable, str(script), str(other)], input=b"\n", check=True)
    names = sorted(file.name for file in store.path.glob("*.h5"))
    assert names == ["ids.h5", *(f"shard-{k:05d}.h5" for k in range(4))]
    for name in names:
        assert (other / name).read_bytes() == (store.path / name).read_bytes(), name
    for name in ("done.json", "plan.json"):
        assert (other / name).read_bytes() == (store.path / name).read_bytes(), name


def test_a_shard_has_checksums_everywhere_and_nothing_that_varies(store: Store) -> None:
    with h5py.File(store.path / "shard-00000.h5", "r") as file:
        assert file.id.get_create_plist().get_version()[0] == 3  # the superblock of v110
        for dataset in file.values():
            filters = dataset.id.get_create_plist()
            assert filters.get_nfilters() == 1
            assert dataset.fletcher32
            assert not filters.get_obj_track_times()
            assert h5py.check_string_dtype(dataset.dtype) is None
        assert sorted(file.attrs) == [
            "content_sha256",
            "first",
            "format",
            "key_digest",
            "rows",
            "shard",
        ]


def test_a_plan_that_was_begun_holds(tmp_path: Path, recipe: "type[Recipe]") -> None:
    recipe().write(tmp_path / "s", shards=1)
    with recipe(rows_per_shard=10, encode_batch=3).writer(tmp_path / "s") as writer:
        assert (writer.rows_per_shard, writer.encode_batch) == (16, 8)
        assert [spec.id for spec in writer.missing] == [1, 2, 3]


def test_another_list_of_samples_is_refused(tmp_path: Path, recipe: "type[Recipe]") -> None:
    made = recipe()
    with pytest.raises(ValueError, match="not the samples"):
        type(made.writer(tmp_path))(tmp_path, made.key, ids=made.ids[::-1], encode_batch=8, info={})


def test_reading_needs_no_right_to_write(store: Store) -> None:
    before = {file: file.stat().st_mtime_ns for file in store.path.rglob("*")}
    for file in before:
        file.chmod(0o555 if file.is_dir() else 0o444)
    store.path.chmod(0o555)
    try:
        again = Store.open(store.path)
        again.load()
        again.ids()
    finally:
        store.path.chmod(0o755)
        for file in before:
            file.chmod(0o755)
    assert {file: file.stat().st_mtime_ns for file in store.path.rglob("*")} == before
