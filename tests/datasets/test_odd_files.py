"""Odd tables, links and pictures: each is read, or named in three lines; none waits or floods."""

import io
import logging
import os
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from cacheclip.datasets import images
from cacheclip.datasets.base import DataSet, resolve
from cacheclip.datasets.splits import read_coop_split
from cacheclip.errors import InputError

Tree = Callable[[Iterable[str]], Path]
PICTURES = [f"{name}/{k}.png" for name in "ab" for k in range(5)]


def load(path: Path | str, alias: str | None = None) -> DataSet:
    return resolve(str(path), data_root=Path("nowhere"), alias=alias)


def table(root: Path, header: str, *lines: str) -> Path:
    file = root / "labels.csv"
    rows = [f"{picture},{picture[0]}" for picture in PICTURES]
    file.write_text("\n".join([header, *rows, *lines]) + "\n")
    return file


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        ("path,label," + "x" * 200_000, "", "no columns path and label"),
        ("path,label", "x/" * 3000 + "0.png,b", "name files that are not there"),
        ("path,label", "x" * 300 + ".png,b", "name files that are not there"),
        ("path,label", "x" * 200_000 + ",b", "field larger than field limit"),
        ("path,label" + ",c" * 1000, "", "the header 1002"),
    ],
)
def test_a_table_with_odd_cells_is_named(tree: Tree, header: str, line: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(table(tree(PICTURES), header, line))


def test_links_to_what_can_be_no_file_refuse_no_folder_and_are_named(tree: Tree) -> None:
    root = tree(PICTURES)
    links = {"n": "0.png/x", "long": "x" * 300, "there": "back.png", "back": "there.png"}
    for name, target in links.items():
        (root / "a" / f"{name}.png").symlink_to(target)
    birds = load(root)
    assert sum(len(split.ids) for split in birds.splits.values()) == 10
    named = [line for line in birds.notices if "links that lead to no file" in line]
    assert named[0].endswith("a/back.png, a/long.png, a/n.png, a/there.png")


def test_a_folder_in_a_folder_a_thousand_times_is_walked(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(PICTURES)
    content = (root / "a" / "0.png").read_bytes()
    monkeypatch.chdir(root / "a")
    for _ in range(1200):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    Path("0.png").write_bytes(content)
    monkeypatch.chdir(root)
    try:
        assert sum(len(split.ids) for split in load(root).splits.values()) == 11
    finally:
        subprocess.run(["rm", "-r", "a/d"], check=True)  # deeper than shutil can follow


def test_a_folder_whose_name_is_no_text_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"f\xff")
    for name in PICTURES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / name)
    with pytest.raises(InputError, match="not UTF-8") as caught:
        load(root, alias="fine")
    assert caught.value.fix.startswith("mv -n $'")


def test_file_names_that_are_no_text_come_with_the_commands_that_rename_them(tree: Tree) -> None:
    root = tree(PICTURES)
    content = (root / "a" / "0.png").read_bytes()
    for name in (
        b"a/x\xff.png",
        b"a/x\xfe.png",
        b"a/two\nlines\n/0.png",
        b"c\xff/0.png",
        b"c\xff/1.png",
    ):
        path = root / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(InputError, match="5 file names are not UTF-8 text in one line") as caught:
        load(root)
    assert len(str(caught.value).splitlines()) == 3
    subprocess.run(["bash", "-c", caught.value.fix], check=True)
    ids = {id_ for split in load(root).splits.values() for id_ in split.ids}
    assert ids - set(PICTURES) == {
        *("a/two_lines_/0.png", "a/x_fe.png", "a/x_ff.png"),
        *("c_ff/0.png", "c_ff/1.png"),
    }


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "folder/~nobody-of-this-name/x"])
def test_the_home_of_an_unknown_user_is_no_folder(name: str) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        load(name)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("s.json", b'{"train":' + b"[" * 100_000),
        ("s.json.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage"),
    ],
)
def test_a_split_file_that_is_none_is_named(tmp_path: Path, file: str, data: bytes) -> None:
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        read_coop_split(tmp_path / file)


def png(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (width, height)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(("limit", "most"), [(10**6, 4), (100, 1)])
def test_large_pictures_are_in_memory_one_at_a_time(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", limit)
    inside, seen, all_there = 0, [], threading.Barrier(4)

    def use(picture: Image.Image) -> None:
        nonlocal inside
        inside += 1
        seen.append(inside)
        if most > 1:
            all_there.wait(10)  # small ones are used together, or this breaks
        inside -= 1

    data = png(20, 20)
    threads = [threading.Thread(target=images.using_rgb, args=(data, use)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), max(seen)) == (4, most)


def test_a_picture_for_which_no_memory_is_left_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(images, "_to_rgb", full)
    with pytest.raises(images.ImageError, match="toolarge: 3 x 2 pixels"):
        images.read_rgb(png(3, 2))


def test_pillow_says_nothing_in_its_own_words(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("PIL.TiffImagePlugin").warning("More samples per pixel than can be decoded")
    with warnings.catch_warnings():
        warnings.filterwarnings("default")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")
        images.read_rgb(png(3, 2))
    assert capfd.readouterr().err == ""
