"""Writers that are killed, refused or raced, and what the next one makes of it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cacheclip.errors import StoreError
from cacheclip.files import locks
from cacheclip.store import shard
from cacheclip.store.key import key_digest
from cacheclip.store.reader import IncompleteStoreError, Store
from cacheclip.store.schema import ShardSpec, plan_shards

if TYPE_CHECKING:
    from cacheclip.store.writer import ImageStoreWriter
    from tests.store.conftest import Recipe

VICTIM = Path(__file__).parent / "victim.py"
KILLS = int(os.environ.get("KILLS", "20"))  # more on demand
SECONDS = 0.75 * KILLS  # after these no further victim is started


def assert_sound(path: Path, recipe: "Recipe") -> None:
    """Every shard under its final name is whole, and the store opens or says how far it got."""
    for file in sorted(path.glob("shard-*.h5")):
        spec = next(spec for spec in planned(path, recipe) if spec.file == file.name)
        ids = recipe.ids[spec.first : spec.first + spec.rows]
        record = shard.verified(file, spec, ids, key_digest(recipe.key), "cacheclip extract")
        if (path / spec.record).exists():
            assert json.loads((path / spec.record).read_text())["sha256"] == record.sha256
    for file in path.glob("done/*.json"):
        assert (path / f"shard-{file.stem}.h5").exists()
    if (path / "done.json").exists():
        Store.open(path).load()
    elif (path / "key.json").exists():
        with pytest.raises(IncompleteStoreError):
            Store.open(path)


def planned(path: Path, recipe: "Recipe") -> tuple[ShardSpec, ...]:
    rows = json.loads((path / "plan.json").read_text())["rows_per_shard"]
    return plan_shards(recipe.rows, rows)


def test_a_writer_killed_anywhere_leaves_a_sound_store(
    tmp_path: Path, recipe: "type[Recipe]"
) -> None:
    fields: dict[str, Any] = {"rows": 200, "dim": 256, "rows_per_shard": 16}
    made = recipe(**fields)
    clean, path = tmp_path / "clean", tmp_path / "killed"
    started = time.monotonic()
    made.write(clean)
    duration = time.monotonic() - started  # of all shards, to spread the kills over
    chance = random.Random(5)
    kills = 0
    with victims(path, json.dumps(fields)) as (ask, answer):
        while kills < KILLS and time.monotonic() < started + SECONDS:
            ask()
            writer = int(answer())
            time.sleep(chance.uniform(0, duration / 2))
            with suppress(ProcessLookupError):
                os.kill(writer, signal.SIGKILL)
            ended = int(answer())
            assert ended in (0, -signal.SIGKILL)
            kills += ended == -signal.SIGKILL
            assert_sound(path, made)
            if ended == 0:
                assert_same_files(path, clean)
                shutil.rmtree(path)
    assert kills >= KILLS / 2
    made.write(path)
    assert_same_files(path, clean)
    assert list((path / "tmp").iterdir()) == []


@contextmanager
def victims(*arguments: object) -> Iterator[tuple[Callable[[], None], Callable[[], str]]]:
    """What asks for a writer that goes on with a store, and what hears of its birth and death."""
    command = [sys.executable, str(VICTIM), *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        stdin, stdout = parent.stdin, parent.stdout

        def ask() -> None:
            stdin.write("\n")
            stdin.flush()

        yield ask, stdout.readline


def assert_same_files(path: Path, clean: Path) -> None:
    names = sorted(file.name for file in clean.glob("*.h5"))
    assert sorted(file.name for file in path.glob("*.h5")) == names
    for name in [*names, "done.json"]:
        assert (path / name).read_bytes() == (clean / name).read_bytes(), name


def test_a_shard_published_without_a_record_is_adopted_as_it_is(
    tmp_path: Path, recipe: "type[Recipe]"
) -> None:
    made, path = recipe(), tmp_path / "s"
    made.write(path, shards=2)
    record = path / "done" / "00001.json"
    wanted = record.read_text()
    record.unlink()
    before = (path / "shard-00001.h5").stat()
    with made.writer(path) as writer:
        assert [spec.id for spec in writer.missing] == [2, 3]
    assert record.read_text() == wanted
    after = (path / "shard-00001.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("bit", [8 * 20, 8 * 3000, 8 * 9000, -8])
def test_a_damaged_shard_without_a_record_is_written_anew(
    tmp_path: Path, recipe: "type[Recipe]", bit: int
) -> None:
    made, path = recipe(dim=256), tmp_path / "s"
    store = made.write(path)
    assert store is not None
    file = path / "shard-00001.h5"
    whole = file.read_bytes()
    file.write_bytes(whole[: bit // 8] if bit < 0 else _flipped(whole, bit))
    (path / "done" / "00001.json").unlink()
    (path / "done.json").unlink()
    with made.writer(path) as writer:
        assert [spec.id for spec in writer.missing] == [1]
        made.fill(writer)
        writer.finish().load()
    assert file.read_bytes() == whole


def _flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_a_shard_of_another_key_is_never_adopted(tmp_path: Path, recipe: "type[Recipe]") -> None:
    """The same pictures and names, computed otherwise."""
    made = recipe()
    made.write(tmp_path / "s", shards=1)
    recipe(compute="float16", seed=8).write(tmp_path / "twin")
    shutil.copy(tmp_path / "twin" / "shard-00001.h5", tmp_path / "s")
    with made.writer(tmp_path / "s") as writer:
        assert [spec.id for spec in writer.missing] == [1, 2, 3]


def test_the_record_is_written_after_the_shard(tmp_path: Path, recipe: "type[Recipe]") -> None:
    made, path = recipe(), tmp_path / "s"
    with made.writer(path) as writer:
        (path / "done").write_text("in the way of every record")
        with pytest.raises(StoreError, match="a part of this path is a file"):
            made.fill(writer, 1)
        assert [spec.id for spec in writer.missing] == [0, 1, 2, 3]
    assert [file.name for file in path.glob("shard-*")] == ["shard-00000.h5"]


def test_a_removed_shard_is_the_only_one_written_anew(store: Store, recipe: "type[Recipe]") -> None:
    """What the fix of a damaged shard's error asks for."""
    good = store.load().features
    (store.path / "shard-00002.h5").unlink()
    with recipe().writer(store.path) as writer:
        assert [spec.id for spec in writer.missing] == [2]
        with pytest.raises(IncompleteStoreError, match="3 of 4"):
            Store.open(store.path)
        recipe().fill(writer)
        np.testing.assert_array_equal(writer.finish().load().features, good)


@pytest.mark.parametrize(
    "name", ["key.json", "ids.h5", "plan.json", "done.json", "done/00003.json"]
)
def test_any_other_file_removed_or_spoilt_comes_back(
    store: Store, recipe: "type[Recipe]", name: str
) -> None:
    file = store.path / name
    whole = file.read_bytes()
    file.unlink()
    recipe().write(store.path)
    assert file.read_bytes() == whole


def test_a_plan_lost_and_made_otherwise_takes_no_shard_for_another(
    store: Store, recipe: "type[Recipe]"
) -> None:
    good = store.load().features
    (store.path / "plan.json").unlink()
    other = recipe(rows_per_shard=10)
    with other.writer(store.path) as writer:
        assert [spec.id for spec in writer.missing] == [0, 1, 2, 3, 4]
        other.fill(writer)
        again = writer.finish()
    np.testing.assert_array_equal(again.load().features, good)


@pytest.mark.parametrize("text", ["[]", '{"rows_per_shard": 8}', '{"rows_per_shard": "x"}'])
def test_a_plan_that_is_something_else_is_named(
    store: Store, recipe: "type[Recipe]", text: str
) -> None:
    (store.path / "plan.json").write_text(text)
    with pytest.raises(StoreError, match="not the plan") as caught, recipe().writer(store.path):
        pytest.fail("no plan")
    assert caught.value.fix.startswith(f"rm {store.path / 'plan.json'} && cacheclip extract")


def test_a_killed_writers_unfinished_file_is_removed(store: Store, recipe: "type[Recipe]") -> None:
    leftover = store.path / "tmp" / ".shard-00009.h5.4711.00ff.tmp"
    leftover.write_bytes(b"half")
    with recipe().writer(store.path):
        assert not leftover.exists()


def test_a_second_writer_is_refused_at_once(tmp_path: Path, recipe: "type[Recipe]") -> None:
    with recipe().writer(tmp_path / "s") as first:
        with pytest.raises(StoreError, match="held by pid") as caught, recipe().writer(first.path):
            pytest.fail("two writers")
        assert caught.value.exit_code == 4
        recipe().fill(first)
        first.finish()


def test_a_writer_that_fails_on_entering_lets_go_of_the_store(
    store: Store, recipe: "type[Recipe]"
) -> None:
    (store.path / "key.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"), recipe().writer(store.path):
        pytest.fail("wrote into a folder that it cannot know")
    with locks.lock(store.path / "lock"):
        pass


def test_where_locks_do_not_reach_the_record_is_that_of_the_file_that_won(
    tmp_path: Path, recipe: "type[Recipe]"
) -> None:
    ours, theirs = recipe(), recipe(seed=8)  # another device: other low bits of the same rows
    with ours.writer(tmp_path / "s") as writer:
        other: ImageStoreWriter = theirs.writer(tmp_path / "other")
        with other:
            theirs.fill(other, 1)
        shutil.copy(tmp_path / "other" / "shard-00000.h5", tmp_path / "s")
        ours.fill(writer)
        loaded = writer.finish().load(normalize=False)
    np.testing.assert_array_equal(loaded.features[0], theirs.features[0].astype(np.float16))
    np.testing.assert_array_equal(loaded.features[16], ours.features[16].astype(np.float16))


def test_a_folder_of_another_key_is_left_alone(store: Store, recipe: "type[Recipe]") -> None:
    other = recipe(compute="float16")
    with pytest.raises(StoreError, match="another key"), other.writer(store.path):
        pytest.fail("two keys in one folder")
    Store.open(store.path).load()


def test_a_finished_shard_is_replaced_with_its_other_rows_as_they_were(
    store: Store, recipe: "type[Recipe]"
) -> None:
    before = store.load(normalize=False)
    files = {record.file: record.sha256 for record in store.records}
    with recipe().writer(store.path) as writer:
        spec = writer.shards[0]
        old = store.read_rows(range(spec.rows))
        old.features[3], old.norm[3] = recipe().features[3], np.nan
        writer.replace(spec, old.features, [], norm=old.norm)
        again = writer.finish()
    assert [failure.row for failure in again.failures()] == [40]
    changed = [record.id for record in again.records if record.sha256 != files[record.file]]
    assert changed == [0]
    after = again.load(normalize=False)
    assert after.ok[3]
    rest = np.arange(len(after.ok)) != 3
    np.testing.assert_array_equal(after.features[rest], before.features[rest])
    np.testing.assert_array_equal(after.norm[rest], before.norm[rest])


def test_a_shard_that_was_being_replaced_is_adopted(store: Store, recipe: "type[Recipe]") -> None:
    """Killed after its record was taken back: the shard is there, the old or the new one."""
    for name in ("done.json", "done/00000.json"):
        (store.path / name).unlink()
    with recipe().writer(store.path) as writer:
        assert writer.missing == []
        assert [failure.row for failure in writer.finish().failures()] == [3, 40]
