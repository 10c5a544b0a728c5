import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheclip.errors import StoreError
from cacheclip.files.disk import sealed
from cacheclip.files.log import lines_left_out, read_log

GOOD = [{"a": 1}, sealed({"b": [1.5, "é"]})]
BAD = {
    "torn": b'{"a": 1',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": json.dumps(GOOD[0]).encode("utf-16"),
    "zeros": bytes(20),
    "not JSON": b"a: 1",
    "a list": b"[1]",
    "not a number": b'{"a": NaN}',
    "lists in lists": b'{"a":' + 100_000 * b"[" + 100_000 * b"]" + b"}",
    "many digits": b'{"a": ' + 5000 * b"1" + b"}",
    "another digest": json.dumps(sealed({"a": 1}) | {"a": 2}).encode(),
    "no digest": b'{"a": 1, "digest": null}',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_line_that_is_no_object_is_left_out_and_counted(tmp_path: Path, bad: bytes) -> None:
    log = tmp_path / "results.jsonl"
    first, last = (json.dumps(content).encode() for content in GOOD)
    log.write_bytes(b"\n".join([first, bad, b"", last, b""]))
    assert read_log(log) == (GOOD, 1)
    log.write_bytes(b"\n".join([first, last, bad]))
    assert read_log(log) == (GOOD, 1)


def test_lines_that_nobody_wants_are_not_looked_at(tmp_path: Path) -> None:
    log = tmp_path / "results.jsonl"
    log.write_bytes(b'{"a": 1}\n{"b": 1}\nb\n')
    assert read_log(log, lambda line: b"a" in line) == ([{"a": 1}], 0)


def test_what_was_left_out_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "results.jsonl"
    assert lines_left_out(log, 0) == []
    assert lines_left_out(log, 1) == ["results.jsonl: 1 line cannot be read and is left out"]
    assert lines_left_out(log, 3) == ["results.jsonl: 3 lines cannot be read and are left out"]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "results.jsonl") == ([], 0)


def link_to_a_log(path: Path) -> None:
    path.with_name("another").write_text('{"a": 1}\n')
    path.symlink_to("another")


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, link_to_a_log, lambda path: path.symlink_to(os.devnull)]
)
def test_a_log_that_is_no_file_is_an_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    log = tmp_path / "a log"
    make(log)
    with pytest.raises(StoreError, match="not a regular file") as caught:
        read_log(log)
    assert caught.value.where == str(log)
    assert caught.value.fix.startswith(f"mv '{log}' '{log}.aside'")


def test_a_log_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*how: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        read_log(tmp_path / "log")
    assert caught.value.fix == f"chmod u+r {tmp_path / 'log'}"
