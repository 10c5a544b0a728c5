"""Disks that give back other bytes, that refuse for a while, and folders that lead elsewhere."""

import errno
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import pytest

from cacheclip.errors import InputError, StoreError
from cacheclip.files.disk import publish_bytes
from cacheclip.files.refusals import RefusedError
from cacheclip.store import writer as writing
from cacheclip.store.home import Home
from cacheclip.store.prune import unused
from cacheclip.store.reader import Store
from cacheclip.store.remove import parts_of, remove
from cacheclip.store.results_place import results_home

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe


def test_a_shard_that_is_read_back_otherwise_does_not_count(
    tmp_path: Path, recipe: "type[Recipe]", monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = publish_bytes

    def flip(path: Path, data: bytes, **how: Any) -> None:
        publish(path, data, **how)
        if path.name == "shard-00001.h5":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    path, whole = tmp_path / "store", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(writing, "publish_bytes", flip)
        with pytest.raises(StoreError, match="other bytes than were written") as caught:
            recipe().write(path)
    assert caught.value.where == str(path / "shard-00001.h5")
    assert not (path / "shard-00001.h5").exists()
    assert not (path / "done" / "00001.json").exists()
    store, other = recipe().write(path), recipe().write(whole)
    assert store is not None
    assert other is not None
    assert store.records == other.records


@pytest.mark.parametrize("moment", ["opening", "reading"])
def test_a_shard_that_the_system_does_not_give_is_not_deleted(
    store: Store, recipe: "type[Recipe]", monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    shard = store.path / "shard-00000.h5"
    (store.path / "done" / "00000.json").unlink()  # so it has to be read in full
    before = shard.read_bytes()

    def refuse(path: Any, *args: Any, **how: Any) -> Any:
        if moment == "opening":
            raise OSError(errno.EMFILE, "Unable to open file")
        raise KeyError(f"Unable to open object (file read failed: errno = {errno.EIO}, error ...)")

    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", refuse)
        with pytest.raises(RefusedError) as caught:
            store.load()
        assert "rm " not in caught.value.fix
    real = h5py.File

    def refuse_shard(path: Any, *args: Any, **how: Any) -> Any:
        return refuse(path) if path == shard else real(path, *args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", refuse_shard)
        with pytest.raises(RefusedError):
            recipe().write(store.path)
    assert shard.read_bytes() == before
    assert recipe().write(store.path) is not None


def test_a_staging_folder_that_is_a_link_loses_nobody_a_file(
    store: Store, recipe: "type[Recipe]", tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("thesis", ".shard-00000.h5.1.0123abcd.tmp"):
        (own / name).write_text("dear")
    (store.path / "tmp").rmdir()
    (store.path / "tmp").symlink_to(own)
    with pytest.raises(StoreError, match="this is a link") as caught:
        recipe().write(store.path)
    assert caught.value.fix.startswith(f"rm {store.path / 'tmp'};")
    assert len(list(own.iterdir())) == 2
    (store.path / "tmp").unlink()
    assert recipe().write(store.path) is not None


def test_what_is_not_ours_stays_among_the_unfinished_files(
    store: Store, recipe: "type[Recipe]"
) -> None:
    (store.path / "tmp" / "folder").mkdir()
    (store.path / "tmp" / "notes").write_text("dear")
    assert recipe().write(store.path) is not None
    assert sorted(file.name for file in (store.path / "tmp").iterdir()) == ["folder", "notes"]


def test_killed_writers_files_of_every_folder_go(
    build: "Builder", home: Home, recipe: "type[Recipe]"
) -> None:
    build.extract()
    text = home.find().text
    assert text is not None
    name, old = ".x.1.0123abcd.tmp", (time.time() - 7200,) * 2
    for folder in ("predictions", "draws", "tests", "bundles", "memo"):
        (home.root / folder).mkdir(exist_ok=True)
        (home.root / folder / name).write_text("half")
        os.utime(home.root / folder / name, old)
    (text.path / "tmp" / name).write_text("half")
    build.text(recipe(), "a photo of a {}.")  # who writes there sweeps, whoever killed whom
    assert not (text.path / "tmp" / name).exists()
    (text.path / "tmp" / name).write_text("half")
    remove(home, unused(home))
    assert not list(home.root.rglob("*.tmp"))


def test_records_that_somebody_holds_are_not_removed(build: "Builder", home: Home) -> None:
    build.extract()
    dataset = home.find().dataset
    with home.holding(dataset):
        gone, left = remove(home, parts_of(home, dataset))
    assert gone == []
    assert re.fullmatch(f"left alone: stores/{dataset}, held by pid .*", left[0])
    remove(home, parts_of(home, dataset))
    assert not home.dataset_folder(dataset).exists()


def test_labels_that_cannot_be_read_for_a_while_are_not_put_aside(
    build: "Builder", home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.extract()
    labels = home.find().labels

    def refuse(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(RefusedError):
            home.write_labels(labels)
    assert home.labels(labels.dataset) == labels
    assert not list(home.root.rglob("*.broken"))


def test_a_full_disk_is_said_before_the_work_and_a_closed_one_sends_results_elsewhere(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    home.root.mkdir()
    number = errno.ENOSPC
    real = Path.open

    def refuse(path: Path, *args: Any, **how: Any) -> Any:
        if path.is_relative_to(home.root):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **how)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match="no space left"):
        results_home(home)
    with pytest.raises(StoreError, match="no space left"):
        home.refuse_closed()
    number = errno.EROFS
    assert results_home(home)[0].root == tmp_path / "user" / "cacheclip"
    with pytest.raises(InputError):
        results_home(home, home.root)
    with pytest.raises(StoreError, match="read-only"):
        home.refuse_closed("pets")
    assert list(home.root.iterdir()) == []
