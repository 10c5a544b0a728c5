"""Sentences of each class stand beside the prompts of templates, and replace none of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cacheclip.encoders.base import EncoderSpec, load
from cacheclip.errors import InputError, StoreError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.about import about
from cacheclip.store.home import Home
from cacheclip.store.inventory import inventory
from cacheclip.store.prune import unused
from cacheclip.study.compare import Comparison, Request

Asked = Callable[..., ExtractRequest]
CUPL = Request(("cupl",), shots=(1,), seeds=(1,), select="fixed")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def written(tmp_path: Path, content: dict[str, list[str]], name: str = "mine.json") -> str:
    (tmp_path / name).write_text(json.dumps(content))
    return str(tmp_path / name)


def test_sentences_are_kept_beside_the_templates(
    asked: Asked, home: Home, pets: Path, tmp_path: Path, tower: Path
) -> None:
    plain = run(asked(pets), home)
    with pytest.raises(StoreError, match="cupl: there are no sentences") as caught:
        Comparison(CUPL, home.find())
    assert caught.value.fix.startswith("write FILE.json, {class: list of sentences}, then: ")
    assert caught.value.fix.endswith(" --sentences FILE.json")

    long = "Cats " + "and cats " * 20
    told = {"cat": ["A cat.", long], "dog": ["A hound.", "One {}."]}
    report = run(asked(pets, sentences=written(tmp_path, told)), home)
    assert report.encoded == 0
    assert "mine.json: read as sentences by class, 2 a class" in report.notices
    assert "1 prompts were cut to the encoder's context length" in report.notices
    found = home.find()
    assert found.text is not None
    assert found.sentences is not None
    assert about(found)["sentences"] == {"from": "mine.json", "a class": 2}
    with pytest.raises(StoreError) as lacked:  # the file may be gone, and what it held stays
        Comparison(replace(CUPL, methods=("coop", "cupl", "calip")), replace(found, sentences=None))
    assert [name in lacked.value.what for name in ("coop:", "cupl:", "calip:")] == [True] * 3
    with pytest.raises(StoreError, match="no part tower") as caught:
        found.part_store("tower")
    assert "--sentences" not in caught.value.fix
    assert found.text.template == "picture"
    assert found.text.path in plain.stores  # it is the one that was there
    assert found.sentences.prompts == [["A cat.", long.strip()], ["A hound.", "One dog."]]
    raw, _ = load(EncoderSpec(f"local-dir:{tower}", device="cpu")).encode_texts(["A hound."])
    np.testing.assert_allclose(found.sentences.load()[1, 0], raw[0], rtol=2e-3, atol=1e-3)
    assert "sentences" in {entry.layer for entry in inventory(home)}
    assert list(unused(home)) == []
    assert Comparison(CUPL, found).blocks[-1].method.name == "cupl"


def test_the_sentences_extracted_last_count_and_stay_where_none_are_asked_for(
    asked: Asked, home: Home, pets: Path, tmp_path: Path
) -> None:
    both = [
        written(tmp_path, {"cat": [f"Cat {k}."], "dog": [f"Dog {k}."]}, f"{k}.json")
        for k in range(2)
    ]
    for file in (*both, both[0]):
        run(asked(pets, sentences=file), home)
    again = run(asked(pets, sentences=both[0]), home)
    assert "everything is there already: nothing was encoded" in again.notices
    run(asked(pets), home)
    found = home.find()
    assert found.sentences is not None
    assert found.sentences.prompts == [["Cat 0."], ["Dog 0."]]
    assert found.sentences.template == "cupl:0.json"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('["a photo of a {}."]', "these are no sentences by class"),
        ('{"cat": ["A cat."]}', "no sentences for 1 of 2 classes: dog"),
        (None, "there is no such file of sentences"),
    ],
)
def test_what_are_no_sentences_is_refused_before_anything_is_encoded(
    asked: Asked, home: Home, pets: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=says):
        run(asked(pets, sentences=str(tmp_path / "s.json")), home)
    assert home.datasets() == []


def test_damaged_sentences_are_said_and_no_older_ones_take_their_place(
    asked: Asked, home: Home, pets: Path, tmp_path: Path
) -> None:
    for k in range(2):
        run(asked(pets, sentences=written(tmp_path, {"cat": [f"A {k}."], "dog": ["A."]})), home)
    store = home.find().sentences
    assert store is not None
    (store.path / "done.json").write_text("{}")
    found = home.find()
    assert found.sentences is None
    with pytest.raises(StoreError) as caught:
        Comparison(CUPL, found)
    assert "--sentences" in caught.value.fix
