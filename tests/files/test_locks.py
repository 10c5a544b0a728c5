"""Files that are written in place are no links, and only what is ours is taken away."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheclip.errors import InputError, StoreError
from cacheclip.files import disk, locks
from cacheclip.files.places import refuse_place, try_writing


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    """A file of the user's own."""
    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / "thesis"
    file.write_text("years of work")
    return file


@pytest.mark.parametrize("broken", [False, True])
def test_a_log_or_lock_that_is_a_link_is_refused(
    thesis: Path, tmp_path: Path, broken: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing" if broken else thesis)
    with pytest.raises(StoreError, match="this is a link") as caught:
        disk.append_line(link, "line")
    assert caught.value.fix.startswith(f"rm {link};")
    with pytest.raises(StoreError, match="this is a link"), locks.lock(link):
        pytest.fail("it is held")
    with pytest.raises(StoreError, match="this is a link"):
        try_writing(tmp_path, ["link"])
    assert thesis.read_text() == "years of work"
    assert not (tmp_path / "nothing").exists()
    link.unlink()  # as the fix says
    disk.append_line(link, "line")
    assert link.read_text() == "line\n"


def test_a_log_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="no regular file"):
        disk.append_line(tmp_path / "pipe", "line")
    with pytest.raises(StoreError, match="there is a folder of this name"):
        disk.append_line(tmp_path / "folder", "line")


def test_unfinished_files_are_not_written_or_deleted_through_a_link(
    thesis: Path, tmp_path: Path
) -> None:
    ours = thesis.parent / ".shard.12.0123abcd.tmp"
    ours.write_text("")
    staging = tmp_path / "tmp"
    staging.symlink_to(thesis.parent)
    with pytest.raises(StoreError, match="this is a link"):
        disk.sweep(staging)
    with pytest.raises(StoreError, match="this is a link"):
        disk.publish_bytes(tmp_path / "file", b"x", staging=staging)
    assert disk.leftovers(staging) == []
    assert sorted(file.name for file in thesis.parent.iterdir()) == [ours.name, "thesis"]


def test_only_our_own_unfinished_files_are_swept(thesis: Path) -> None:
    folder = thesis.parent
    for name in (".a.12.0123abcd.tmp", ".b.c.json.7.00000000.tmp"):
        (folder / name).write_text("")
    kept = [".hidden.tmp", ".a.12.0123ABCD.tmp", "a.12.0123abcd.tmp", ".a.x.0123abcd.tmp"]
    for name in kept:
        (folder / name).write_text("")
    (folder / ".folder.12.0123abcd.tmp").mkdir()
    (folder / ".link.12.0123abcd.tmp").symlink_to(thesis)
    disk.sweep(folder)
    left = {file.name for file in folder.iterdir()}
    assert left == {*kept, ".folder.12.0123abcd.tmp", ".link.12.0123abcd.tmp", "thesis"}
    disk.sweep(folder / "nothing")


def test_a_file_that_a_writer_leaves_is_known_as_left(tmp_path: Path) -> None:
    with disk.publishing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        assert disk.leftovers(tmp_path) == [temporary]
    assert disk.leftovers(tmp_path) == []


def test_a_lock_file_that_was_taken_away_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    both: list[bool] = []
    held, go = threading.Event(), threading.Event()

    def waiter() -> None:
        with locks.lock(path, wait=30):
            both.append(path.exists())
            held.set()
            go.wait(30)

    with locks.lock(path):
        thread = threading.Thread(target=waiter)
        thread.start()
        time.sleep(0.2)  # it waits for the file that is there
        path.unlink()
    assert held.wait(30)
    with pytest.raises(StoreError, match="held by"), locks.lock(path):
        pytest.fail("two hold the lock")
    go.set()
    thread.join()
    assert both == [True]


def test_a_lock_whose_holder_cannot_be_noted_is_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        locks.lock(tmp_path / "lock"),
        pytest.raises(StoreError, match="another process that has just begun"),
        locks.lock(tmp_path / "lock"),
    ):
        pytest.fail("two hold the lock")


Deny = Callable[[Path], None]


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Deny:
    """Let no file be made in a folder (root may write anywhere)."""
    real = os.open

    def denied(folder: Path) -> None:
        def opened(path: str, flags: int, *args: int, **kwargs: int) -> int:
            if flags & os.O_CREAT and Path(path).parent == folder:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, flags, *args, **kwargs)

        def made(path: Path, *args: object, **kwargs: object) -> object:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(Path, "open", made)

    return denied


def test_a_place_is_written_to_before_the_work_and_left_as_it_was(
    deny: Deny, tmp_path: Path
) -> None:
    refuse_place(tmp_path / "new" / "b.safetensors", "--out")
    try_writing(tmp_path / "absent" / "home", ["predictions"])
    assert [file.name for file in tmp_path.iterdir()] == ["new"]
    deny(tmp_path / "new")
    with pytest.raises(InputError, match="cannot write there: Permission denied") as caught:
        refuse_place(tmp_path / "new" / "b.safetensors", "--out")
    assert caught.value.fix == "give another --out FILE"
    assert list((tmp_path / "new").iterdir()) == []
