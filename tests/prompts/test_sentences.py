"""Sentences class by class, as CuPL has them, beside templates for all classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import InputError
from cacheclip.prompts.classnames import spoken_apart
from cacheclip.prompts.ensemble import PromptSet, prompt_set, sentence_set

NAMES = ("hot_dog", "Pho")


def prompts(tmp_path: Path, content: Any, dataset: str = "folder/food", **more: Any) -> PromptSet:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content))
    return prompt_set(NAMES, family="photo", template=str(file), dataset=dataset, **more)


def test_sentences_are_used_as_they_are(tmp_path: Path) -> None:
    found = prompts(tmp_path, {"pho": ["A soup.", " A bowl. "], "hot dog": "A bun with a {}."})
    assert found.template == "mine.json"
    assert found.prompts == [["A bun with a hot dog."], ["A soup.", "A bowl."]]
    assert found.notices == ("mine.json: read as sentences by class, 1 to 2 a class",)


def test_classes_are_found_by_their_folders_too(tmp_path: Path) -> None:
    content = {"c1": ["A bun."], "c2": ["A soup."], "c3": ["A cake."]}
    found = prompts(tmp_path, content, folders=("c1", "c2"))
    assert found.prompts == [["A bun."], ["A soup."]]
    assert found.notices[1] == "mine.json: not used, classes of other sets: c3"


def test_a_file_that_could_be_both_says_how_it_was_read(tmp_path: Path) -> None:
    both = {"hot_dog": ["A bun."], "pho": ["A soup."]}
    found = prompts(tmp_path, {**both, "food": ["one {}", "two {c}"]})
    assert found.templates == ("one {}", "two {}")
    assert found.notices == (
        "mine.json: read as templates of the data set 'food', not as sentences by class",
    )
    found = prompts(tmp_path, both, dataset="folder/pho")
    assert found.prompts == [["A bun."], ["A soup."]]
    assert "not as templates of the data set 'pho'" in found.notices[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"pho": ["A soup."]}, "no sentences for 1 of 2 classes: hot_dog"),
        ({"cat": ["A cat."], "dog": ["A dog."]}, "no sentences for 2 of 2 classes: hot_dog, Pho"),
        ({"pho": ["A soup."], "hot_dog": []}, "no sentences for 'hot_dog'"),
        ({"pho": ["A soup."], "hot_dog": [3]}, "'hot_dog' are no list of texts"),
        ({"dtd": ["{} texture."]}, "no templates for 'food', only for dtd"),
        ({"food": ["no place"]}, "no sentences for|no place for the class name"),
    ],
)
def test_misfits_are_said(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        prompts(tmp_path, content)


def test_names_that_say_nothing_are_said_of_own_folders_alone() -> None:
    found = prompt_set(("n01", "bird"), family="photo")
    (warning,) = found.warnings(own=True)
    assert warning.startswith("1 of 2 class names look like codes (n01)")
    assert "--classnames FILE" in warning
    assert list(found.warnings(own=False)) == []


def test_sentences_make_up_for_names_that_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"c1": ["A bird."], "c2": ["A cat."]}')
    found = prompt_set(("c1", "c2"), family="photo", template=str(tmp_path / "s.json"))
    assert list(found.warnings(own=True)) == []


def test_classes_with_equal_prompts_are_named() -> None:
    names = ("Hot_dog", "wren", "hot-dog", "cafe\u0301", "caf\u00e9")
    (warning,) = prompt_set(names, family="photo", speak=spoken_apart).warnings(own=True)
    assert "Hot_dog and hot-dog; cafe\u0301 and caf\u00e9: zero-shot cannot tell" in warning
    assert list(prompt_set(names[:3], family="photo").warnings(own=True)) == []


def test_a_name_that_is_no_class_and_a_set_that_ships_none_are_said(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"ant": ["an ant"], "bea": ["a bee"]}))
    with pytest.raises(InputError, match=r"no sentences for 1 of 2 classes: .*bee.*bea") as caught:
        sentence_set(["ant", "bee"], told=str(file))
    assert "one template a line" not in caught.value.fix
    with pytest.raises(InputError) as caught:
        sentence_set(["ant", "bee"], told="cliprt")
    assert caught.value.fix.startswith("did you mean --sentences clipart?")
    with pytest.raises(InputError, match="no such file") as caught:
        sentence_set(["ant", "bee"], told="cliprt.json")
    assert caught.value.fix.startswith("check the path")
