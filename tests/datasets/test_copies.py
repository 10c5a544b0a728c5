import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cacheclip.datasets import copies
from cacheclip.datasets.copies import file_info, same_bytes, same_content


def groups(paths: Sequence[Path]) -> list[list[int]]:
    infos = [file_info(str(path)) for path in paths]
    return same_bytes([str(path) for path in paths], [info for info in infos if info is not None])


def files(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{number}.bin" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_equal_bytes_are_found_and_nothing_else(tmp_path: Path) -> None:
    long = os.urandom(50_000)
    other_end = long[:-1] + bytes([long[-1] ^ 1])  # the same in the middle, and of one size
    paths = files(tmp_path, long, b"ab", other_end, long, b"ba", b"ab", b"", b"")
    assert groups(paths) == [[0, 3], [1, 5]]
    assert same_content(["x", "y", "x", "x"]) == [[0, 2, 3]]


def test_links_are_copies_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = files(tmp_path, b"picture")
    linked, hard = tmp_path / "link.bin", tmp_path / "hard.bin"
    linked.symlink_to(path)
    os.link(path, hard)
    monkeypatch.setattr(copies, "_probe", None)
    assert groups([path, linked, hard]) == [[0, 1, 2]]


def test_files_of_other_sizes_are_not_opened_and_few_bytes_tell_most_others_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, *(os.urandom(9_000) for _ in range(20)), b"short", b"shorter")
    probed: list[str] = []
    whole: list[str] = []
    probe = copies._probe

    def noted(path: str, size: int) -> bytes | None:
        probed.append(path)
        return probe(path, size)

    monkeypatch.setattr(copies, "_probe", noted)
    monkeypatch.setattr(copies, "_whole", lambda path, _: whole.append(path))
    assert groups(paths) == []
    assert (len(probed), whole) == (20, [])


def test_what_leads_nowhere_has_no_info(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    assert file_info(str(tmp_path / "gone")) is None
    assert file_info(str(tmp_path / "loop")) is None
