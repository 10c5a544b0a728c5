"""Whatever the system says of a file is three lines, and what a disk merely lacks is no error."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import StoreError
from cacheclip.files import disk, locks, refusals

Failing = Callable[..., None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Let calls of one kind fail, of folders alone where that is asked for."""

    def fail(module: Any, name: str, number: int, *, folders: bool = False) -> None:
        real = getattr(module, name)

        def called(first: Any, *args: Any, **kwargs: Any) -> Any:
            if not folders or os.path.isdir(f"/proc/self/fd/{first}"):  # noqa: PTH112
                raise OSError(number, os.strerror(number))
            return real(first, *args, **kwargs)

        monkeypatch.setattr(module, name, called)

    return fail


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_every_errno_is_said_in_three_lines() -> None:
    for number in errno.errorcode:
        error = OSError(number, os.strerror(number), "file")
        for told in (refusals.refused(error, "here", "--out"), refusals.escaped(error)):
            assert isinstance(told, StoreError)
            assert len(str(told).splitlines()) == 3
            assert "{" not in told.fix
    assert "--out" in refusals.refused(OSError(errno.EROFS, ""), "here", "--out").fix
    assert "--home" not in refusals.refused(OSError(errno.EACCES, ""), "here", "--out").fix


def test_an_error_without_a_number_is_said_too() -> None:
    assert refusals.refused(OSError("strange"), "here").what == "the system says: strange"
    assert refusals.refused(OSError(), "here").what == "the system says: OSError"


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ESTALE, errno.EBUSY, errno.ELOOP, errno.EFBIG, errno.EINTR, 9999]
)
def test_a_file_that_cannot_be_published_leaves_nothing(
    failing: Failing, tmp_path: Path, number: int
) -> None:
    failing(os, "fsync", number)
    with pytest.raises(StoreError) as caught:
        disk.publish_bytes(tmp_path / "file", b"x", option="--out")
    assert caught.value.where == str(tmp_path / "file")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES]
)
def test_a_disk_that_cannot_sync_folders_takes_files(
    failing: Failing, tmp_path: Path, number: int
) -> None:
    failing(os, "fsync", number, folders=True)
    disk.publish_bytes(tmp_path / "file", b"x")
    assert names(tmp_path) == ["file"]


def test_a_folder_whose_disk_fails_while_syncing_is_an_error(
    failing: Failing, tmp_path: Path
) -> None:
    failing(os, "fsync", errno.EIO, folders=True)
    with pytest.raises(StoreError, match="the disk reports an error"):
        disk.publish_bytes(tmp_path / "file", b"x")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EXDEV, errno.EMLINK])
def test_the_first_publisher_wins_without_hard_links(
    failing: Failing, tmp_path: Path, number: int
) -> None:
    failing(os, "link", number)
    disk.publish_bytes(tmp_path / "file", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        disk.publish_bytes(tmp_path / "file", b"second", exclusive=True)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_missing_locks_are_said_once_and_are_no_error(
    failing: Failing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    told: list[str] = []
    monkeypatch.setattr(refusals, "tell", told.append)
    monkeypatch.setattr(refusals, "_told", set())
    failing(fcntl, "flock", number)
    for _ in range(2):
        with locks.lock(tmp_path / "lock"):
            disk.append_line(tmp_path / "log", "line")
    assert (tmp_path / "log").read_text() == "line\nline\n"
    assert told == ["this disk has no locks: let no two commands write to it at once"]


def test_a_lock_that_the_disk_refuses_is_an_error(failing: Failing, tmp_path: Path) -> None:
    failing(fcntl, "flock", errno.EIO)
    with (
        pytest.raises(StoreError, match="the disk reports an error"),
        locks.lock(tmp_path / "lock"),
    ):
        pytest.fail("it is held")


def test_a_file_that_is_not_given_is_not_said_to_be_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk.publish_json(tmp_path / "a.json", {})
    for number, fix in {
        errno.EMFILE: "ulimit -n",
        errno.EACCES: "chmod u+r",
        errno.EIO: "look",
    }.items():

        def refuse(path: Path, number: int = number) -> bytes:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(refusals.RefusedError) as caught:
            disk.read_json(tmp_path / "a.json")
        assert fix in caught.value.fix
        assert not caught.value.fix.startswith("rm ")


@pytest.mark.parametrize("after", [1, 5000])
def test_a_disk_that_takes_part_of_a_line_keeps_the_lines_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int
) -> None:
    log, real, left = tmp_path / "log", os.write, [after]
    disk.append_line(log, "first")

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[: left[0]])
        left[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(StoreError, match="no space left"):
            disk.append_line(log, "x" * 20000)
    assert log.read_text() == "first\n"
    disk.append_line(log, "second")
    assert log.read_text() == "first\nsecond\n"


def test_a_line_that_is_taken_in_parts_is_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    disk.append_line(tmp_path / "log", "x" * 100)
    assert (tmp_path / "log").read_text() == "x" * 100 + "\n"


def test_a_line_that_is_not_synced_is_taken_back(failing: Failing, tmp_path: Path) -> None:
    disk.append_line(tmp_path / "log", "first")
    failing(os, "fsync", errno.EIO)
    with pytest.raises(StoreError):
        disk.append_line(tmp_path / "log", "second")
    assert (tmp_path / "log").read_text() == "first\n"


def test_a_limit_of_file_sizes_is_three_lines(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from cacheclip.files.disk import append_line, publish_bytes
from cacheclip.errors import StoreError
for write, name, what in ((publish_bytes, "file", bytes(9000)), (append_line, "log", "x" * 9000)):
    try:
        write(Path(name), what)
    except StoreError as error:
        print(error.what)
print(Path("log").read_text() == "")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert done.stdout.count("larger than the disk or `ulimit -f` allows") == 2
    assert done.stdout.splitlines()[-1] == "True"
    assert names(tmp_path) == ["log"]
