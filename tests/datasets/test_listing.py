"""Which files are pictures, and what is said of the others."""

import os
from pathlib import Path

import pytest
from PIL import features

from cacheclip.datasets import suffixes
from cacheclip.datasets.listing import pictures, subfolders
from cacheclip.datasets.suffixes import AVIF, EXTENSIONS, HEIF, readable, unread


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _heif(monkeypatch, there=False)


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _heif(monkeypatch, there=True)


def _heif(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    monkeypatch.setattr(suffixes, "has_heif", lambda: there)
    fresh = suffixes.readable.__wrapped__
    monkeypatch.setattr(suffixes, "readable", fresh)
    monkeypatch.setattr("cacheclip.datasets.listing.readable", fresh)


def touch(root: Path, *relatives: str) -> None:
    for relative in relatives:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(b"x")


@pytest.mark.usefixtures("no_extra")
def test_heic_is_readable_with_its_extra_alone() -> None:
    assert not suffixes.readable() & HEIF
    assert {".jpg", ".gif", ".jfif", ".mpo", ".webp"} <= suffixes.readable() <= EXTENSIONS


@pytest.mark.usefixtures("extra")
def test_heic_is_readable_where_the_extra_is_there() -> None:
    assert suffixes.readable() >= HEIF
    assert unread(["a.heic"]) == "1 file not read: .heic 1 (not a regular file)"


def test_avif_is_readable_where_pillow_has_it() -> None:
    assert (readable() >= AVIF) == bool(features.check("avif"))


@pytest.mark.usefixtures("no_extra")
@pytest.mark.parametrize(
    ("paths", "line"),
    [
        ([], None),
        (["Thumbs.db", "a/.DS_Store", "desktop.ini", "notes.txt", "LICENSE", "._x.jpg"], None),
        (["a/1.heic", "b/2.HEIC"], "2 files not read: .heic 2 (pip install 'cacheclip[heic]')"),
        (
            ["1.mov", "2.mov", "x.heif", "y.heic", "y.xmp"],
            "4 files not read: .mov 2, .heic 1, .heif 1 (pip install 'cacheclip[heic]')",
        ),
        (["IMG_1"], "1 file not read: no suffix 1"),
        (["pipe.jpg"], "1 file not read: .jpg 1 (not a regular file)"),
    ],
)
def test_what_was_not_read_is_said_by_suffix_and_count(paths: list[str], line: str | None) -> None:
    assert unread(paths) == line


@pytest.mark.usefixtures("no_extra")
def test_a_folder_is_listed_without_hidden_system_and_special_files(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.GIF", "b/1.jpg", "a.png", "a/deep/3.JFIF")
    touch(tmp_path, ".hidden/4.jpg", "b/._1.jpg", "@eaDir/5.jpg", "b/__MACOSX/6.jpg")
    touch(tmp_path, "b/7.heic", "Thumbs.db")
    os.mkfifo(tmp_path / "b" / "pipe.jpg")
    (tmp_path / "b" / "gone.jpg").symlink_to("nowhere.jpg")
    taken, left = pictures(tmp_path)
    assert taken == ["a.png", "a/deep/3.JFIF", "b/1.jpg", "b/2.GIF", "b/gone.jpg"]
    assert left == ["Thumbs.db", "b/7.heic", "b/pipe.jpg"]
    assert pictures(tmp_path, "a") == (["a/deep/3.JFIF"], [])
    assert subfolders(tmp_path) == ["a", "b"]


def test_linked_folders_are_followed_but_not_back_upwards(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "loop").symlink_to("..")
    (tmp_path / "set" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "set" / "there").symlink_to("back")
    (tmp_path / "set" / "back").symlink_to("there")
    taken, left = pictures(tmp_path / "set")
    assert taken == ["a/1.jpg", "linked/2.jpg", "self.jpg"]
    assert left == ["back", "there"]
