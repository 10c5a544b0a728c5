"""How class names are spoken, which of them look like codes, and files of better ones."""

from pathlib import Path

import pytest

from cacheclip.errors import InputError
from cacheclip.prompts.classnames import codes, read_classnames, spoken, spoken_apart

FOLDERS = ("c1", "c2", "Hot_dog")


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        ("BirdPicture", "Bird Picture"),
        ("motorVehicle", "motor Vehicle"),
        ("fruit-or-berry", "fruit or berry"),
        ("national_flag", "national flag"),
        ("HTMLPage", "HTML Page"),
        ("ÄpfelUndBirnen", "Äpfel Und Birnen"),
        ("iPhone", "iPhone"),
        ("McDonald", "McDonald"),
        ("BMW", "BMW"),
        ("BMWs", "BMWs"),
        ("wren", "wren"),
    ],
)
def test_names_of_own_folders_are_spoken_apart(name: str, apart: str) -> None:
    assert spoken_apart(name) == apart


def test_names_of_the_field_are_spoken_as_published() -> None:
    assert spoken("Bird-Picture_2") == "Bird-Picture 2"


def test_names_that_look_like_codes_are_found() -> None:
    silent = [
        *("n02084071", "0001", "7", "c1", "C", "class_3", "Class A", "cat 12", "label-4"),
        *("d41d8cd98f00b204e9800998ecf8427e", "550e8400-e29b-41d4-a716-446655440000"),
        *("dQw4w9WgXcQ", "m_01g317", "x12b7"),
    ]
    telling = ["bird", "facade", "covid19", "H2O", "Boeing 737", "猫", "20th century", "mp3 player"]
    assert codes([*silent, *telling]) == silent


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("n.txt", "\ufeffa wren\r\n\r\n  a  robin \r\na sausage\n"),
        ("n.txt", "c2 a robin\nc1 a wren\nHot_dog: a sausage\n"),
        ("n.json", '["a wren", "a robin", "a sausage"]'),
        ("n.json", '{"hot dog": "a sausage", "c1": "a wren", "c2": "a robin"}'),
    ],
)
def test_a_file_names_the_classes(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert read_classnames(tmp_path / file, FOLDERS) == ("a wren", "a robin", "a sausage")


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("n.txt", "wren\nrobin\n", "2 class names for 3 classes"),
        ("n.txt", "c1 wren\nc2 robin\nc3 sausage\n", "no name for 1 of 3 classes: Hot_dog"),
        ("n.txt", "wren\nrobin\nWren\n", "two classes have the same name: wren, Wren"),
        ("n.txt", "wren\nro\x1bbin\ndog\n", "no list of texts"),
        ("n.json", '{"c1": "wren", "c2": "robin"}', "no name for 1 of 3 classes: Hot_dog"),
        ("n.json", '{"c1": "a", "c2": "b", "Hot_dog": "c", "c9": "d"}', "not there: c9"),
        ("n.json", '{"c1": "a", "c1": "b", "c2": "b", "Hot_dog": "c"}', "'c1' stands there twice"),
        ("n.json", '{"c1": ["n1", "a"], "c2": "b", "Hot_dog": "c"}', "no list of texts"),
        ("n.json", "3", "no list of texts"),
        ("n.json", "{", "cannot be read"),
    ],
)
def test_misfits_are_said(tmp_path: Path, file: str, text: str, says: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_classnames(tmp_path / file, FOLDERS)
    assert caught.value.where == str(tmp_path / file)
    assert "then run the same command again" in caught.value.fix


def test_no_file_of_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of class names"):
        read_classnames(tmp_path / "absent.txt", FOLDERS)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read"):
        read_classnames(tmp_path / "deep.json", FOLDERS)
