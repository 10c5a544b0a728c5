"""Publishing, locks and digests, with real processes, kills and a real full disk."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import StoreError
from cacheclip.files import disk, locks


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed its first line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


HOLD = """
import sys, time
from pathlib import Path
from cacheclip.files import disk, locks
with locks.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert disk.canonical_json({"b": [1, 0.1], "a": "é"}) == '{"a":"\\u00e9","b":[1,0.1]}'
    assert disk.digest({"a": 1, "b": 2}) == disk.digest({"b": 2, "a": 1})
    assert disk.digest({"a": 1}) != disk.digest({"a": 1.5})


def test_what_json_cannot_hold_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        disk.digest({"a": float("nan")})


def test_two_lists_of_lines_never_share_a_digest() -> None:
    assert disk.sha256_lines(["ab", "c"]) != disk.sha256_lines(["a", "bc"])
    with pytest.raises(ValueError, match="line feed"):
        disk.sha256_lines(["a\nb"])


def test_a_seal_proves_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    disk.publish_json(path, disk.sealed({"b": [1.5, None], "a": "é"}))
    read = disk.read_json(path)
    assert list(read) == ["b", "a", "digest"]
    assert disk.seal_agrees(read)
    assert disk.sealed(read) == read  # a seal is no part of what is sealed


def test_what_nobody_sealed_is_not_proved() -> None:
    assert disk.seal_agrees({"a": 1}) is None
    assert disk.unsealed({"a": 1}) == {"a": 1}


@pytest.mark.parametrize("now", [{"a": 2}, {"a": float("nan")}, {"b": 1}, {"a": 1, "b": 1}])
def test_what_is_not_what_was_sealed_does_not_agree(now: dict[str, Any]) -> None:
    damaged = now | {"digest": disk.digest({"a": 1})}
    assert disk.seal_agrees(damaged) is False


def test_a_seal_that_is_no_text_does_not_agree() -> None:
    assert disk.seal_agrees({"a": 1, "digest": [1]}) is False


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with disk.publishing(target) as temporary:
        temporary.write_text("first half, ")
        assert not target.exists()
        with temporary.open("a") as file:
            file.write("second half")
    assert target.read_text() == "first half, second half"
    assert names(target.parent) == ["file"]


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    disk.publish_text(target, "old")
    with pytest.raises(UnicodeEncodeError), disk.publishing(target) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_first_exclusive_publisher_wins(tmp_path: Path) -> None:
    target = tmp_path / "file"
    late = disk.publishing(target, exclusive=True)
    late.__enter__().write_text("late")
    disk.publish_bytes(target, b"early", exclusive=True)
    with pytest.raises(FileExistsError):
        late.__exit__(None, None, None)
    assert target.read_text() == "early"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_said_in_three_lines_and_leaves_nothing(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    code = """
import os, sys
from pathlib import Path
from cacheclip.files import disk, locks
from cacheclip.errors import StoreError
folder = Path(sys.argv[1])
disk.publish_bytes(folder / "small", b"x" * 1000)
try:
    disk.publish_bytes(folder / "large", b"x" * 1_000_000)
except StoreError as error:
    print(error, os.listdir(folder), sep="\\n")
"""
    script = f'mount -t tmpfs -o size=64k tmpfs "{mounted}" && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("this system lets nobody mount a small disk")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", code, str(mounted)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "error: no space left on the disk",
        f"where: {mounted / 'large'}",
        "fix: free some space, then run the same command again",
        "['small']",
    ]


def test_json_that_is_none_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": \xff')
    with pytest.raises(StoreError) as caught:
        disk.read_json(tmp_path / "a.json")
    assert caught.value.where == str(tmp_path / "a.json")


def test_lines_of_many_processes_stay_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = """
import sys
from pathlib import Path
from cacheclip.files import disk, locks
for k in range(25):
    disk.append_line(Path(sys.argv[1]), f'["{sys.argv[2] * 3000}", {k}]')
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(log), letter]) for letter in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((word[0], k) for word, k in lines) == [(w, k) for w in "abcd" for k in range(25)]


def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"a": 1}\n{"a": ')
    disk.append_line(log, '{"a": 2}')
    assert log.read_text().splitlines() == ['{"a": 1}', '{"a": ', '{"a": 2}']


def test_a_held_lock_is_refused_at_once_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with running(HOLD, path) as holder:
        who = rf"held by pid {holder.pid} on .* since \d\d:\d\d"
        with pytest.raises(StoreError, match=who), locks.lock(path):
            pytest.fail("two hold the lock")
        holder.communicate("\n")
    with locks.lock(path):
        pass


def test_two_locks_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with locks.lock(tmp_path / "lock"), pytest.raises(StoreError), locks.lock(tmp_path / "lock"):
        pytest.fail("two hold the lock")


def test_waiting_for_a_lock_ends_when_its_holder_does(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with running(HOLD, path) as holder:
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        with locks.lock(path, wait=30):
            pass


def test_a_killed_holder_holds_nothing_though_its_child_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = """
import os, sys, time
from pathlib import Path
from cacheclip.files import disk, locks
with locks.lock(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.kill()
        holder.stdout.close()
    try:
        with locks.lock(path, wait=5):
            os.kill(child, 0)  # it still runs
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_that_leaves_the_block_does_not_close_its_own_files(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from cacheclip.files import disk, locks
with locks.lock(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        own = os.open(sys.argv[1] + ".own", os.O_CREAT | os.O_WRONLY)
if child == 0:
    os.write(own, b"still open")
    os._exit(0)
os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=True)
    assert (tmp_path / "lock.own").read_bytes() == b"still open"


def test_a_path_that_cannot_be_is_told_in_three_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    refused = {
        tmp_path / "file" / "a.json": "a part of this path is a file",
        tmp_path / "file" / "deeper" / "a.json": "a part of this path is a file",
        tmp_path / ("x" * 300): "too long",
        tmp_path / "folder": "there is a folder of this name",
    }
    for path, why in refused.items():
        with pytest.raises(StoreError, match=why) as caught:
            disk.publish_json(path, {})
        assert caught.value.where == str(path)
    with pytest.raises(StoreError, match="a part of this path is a file"):
        disk.append_line(tmp_path / "file" / "log", "line")
    with pytest.raises(StoreError, match="cannot be read"):
        disk.read_json(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
