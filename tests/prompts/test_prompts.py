import json
from pathlib import Path

import pytest

from cacheclip.errors import InputError, UsageError
from cacheclip.prompts.ensemble import prompt_set
from cacheclip.prompts.files import read_templates
from cacheclip.prompts.templates import FAMILIES

NAMES = ("apple_pie", "pho")


def test_single_template_with_spoken_names() -> None:
    prompts = prompt_set(NAMES, family="food101")
    assert prompts.prompts == [
        ["a photo of apple pie, a type of food."],
        ["a photo of pho, a type of food."],
    ]
    assert prompts.classnames == NAMES


def test_family_has_one_row_a_class_and_one_column_a_template() -> None:
    prompts = prompt_set(NAMES, family="picture")
    assert [len(row) for row in prompts.prompts] == [6, 6]
    assert prompts.prompts[1][0] == "a picture of a pho."
    assert prompts.prompts[1][-1] == "pho"


def test_every_family_is_well_formed() -> None:
    for name, templates in FAMILIES.items():
        assert templates, name
        assert len(set(templates)) == len(templates)
        assert all(template.count("{}") == 1 for template in templates)


def test_digest_follows_the_texts_and_nothing_else() -> None:
    base = prompt_set(NAMES, family="photo")
    assert base.digest == prompt_set(NAMES, family="imagenet").digest
    assert base.digest == prompt_set(("apple pie", "pho"), family="photo").digest
    others = [
        prompt_set(NAMES[::-1], family="photo"),
        prompt_set(NAMES, family="food101"),
        prompt_set(("apple_pie", "phở"), family="photo"),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 4


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffa {} in snow.\r\n\r\n  my {c}, up close  \n".encode())
    prompts = prompt_set(NAMES, family="photo", template=str(path))
    assert prompts.template == "mine.txt"
    assert prompts.templates == ("a {} in snow.", "my {}, up close")
    assert prompts.prompts[0] == ["a apple pie in snow.", "my apple pie, up close"]


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(["one {c}", "two {}"]))
    assert read_templates(path) == ("one {}", "two {}")
    path.write_text(json.dumps({"food101": ["food {c}"], "coop/food101": ["CoOp {c}"], "pets": []}))
    assert read_templates(path, dataset="coop/food101") == ("CoOp {}",)
    assert read_templates(path, dataset="torch/food101") == ("food {}",)
    with pytest.raises(InputError, match="no templates for 'dtd', only for food101, coop/food101"):
        read_templates(path, dataset="dtd")


def test_a_name_with_braces_is_put_in_once() -> None:
    assert prompt_set(("{}",), family="photo").prompts == [["a photo of a {}."]]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("t.txt", "a photo of a {}.\na photo of a {name}.\n", "template 2 has no place"),
        ("t.txt", "\n \n", "has no templates"),
        ("t.json", "[]", "has no templates"),
        ("t.json", "{", "cannot be read"),
        ("t.json", '"a {}"', "no list of texts"),
        ("t.json", "[1]", "no list of texts"),
    ],
)
def test_faulty_files(tmp_path: Path, file: str, text: str, says: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_templates(tmp_path / file)
    assert caught.value.where == str(tmp_path / file)


def test_neither_family_nor_file() -> None:
    with pytest.raises(UsageError, match="there are no templates 'photos'") as caught:
        prompt_set(NAMES, family="photo", template="photos")
    assert "food101" in caught.value.fix
    with pytest.raises(InputError, match="no such template file"):
        prompt_set(NAMES, family="photo", template="photos.txt")
