"""Names and sentences that the user gives to the classes of a folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cacheclip.encoders.base import EncoderSpec, load
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home

Asked = Callable[..., ExtractRequest]
Painter = Callable[[Path, int], None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def coded(tmp_path: Path, paint: Painter) -> Path:
    """Give a folder of 20 pictures in two classes named by codes."""
    for number in range(20):
        paint(tmp_path / "coded" / ("n02084071", "n02121808")[number % 2] / f"{number}.png", number)
    return tmp_path / "coded"


def test_given_names_are_the_sets_and_enter_the_prompts(
    asked: Asked, home: Home, coded: Path, tmp_path: Path, paint: Painter
) -> None:
    first = run(asked(coded), home)
    assert any("2 of 2 class names look like codes" in line for line in first.notices)
    (tmp_path / "names.json").write_text('{"n02121808": "house cat", "n02084071": "dog"}')
    named = run(asked(coded, classnames=tmp_path / "names.json"), home)
    assert named.encoded == 0  # the pictures are the same
    assert not any("codes" in line or "by hand" in line for line in named.notices)
    assert any("n02084071 = dog, n02121808 = house cat" in line for line in named.notices)
    found = home.find()
    assert list(found.labels.classnames) == ["dog", "house cat"]
    assert found.text is not None
    assert found.text.prompts[1][0] == "a picture of a house cat."
    assert f"--classnames {tmp_path / 'names.json'}" in found.extract_command

    again = run(asked(coded), home)  # what was given once stays, and is said
    assert any("as they were given before: dog, house cat" in line for line in again.notices)
    kept = home.find()
    assert kept.labels == found.labels
    assert kept.text is not None
    assert kept.text.digest == found.text.digest

    paint(coded / "n02084071" / "more.png", 99)
    grown = run(asked(coded), home)
    assert any("they were dog, house cat" in line for line in grown.notices)
    assert list(home.find().labels.classnames) == ["n02084071", "n02121808"]

    (tmp_path / "names.txt").write_text("hound\ncat\n")
    run(asked(coded, classnames=tmp_path / "names.txt"), home)
    assert list(home.find().labels.classnames) == ["hound", "cat"]


def test_corrected_labels_stay_under_new_names(
    asked: Asked, home: Home, coded: Path, tmp_path: Path
) -> None:
    run(asked(coded), home)
    file = home.labels_file("folder/coded")
    content = json.loads(file.read_text())
    content["splits"]["train"]["labels"][0] ^= 1
    file.write_text(json.dumps(content))
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    report = run(asked(coded, classnames=tmp_path / "names.txt"), home)
    assert any("corrected by hand and is kept" in line for line in report.notices)
    labels = home.find().labels
    assert list(labels.classnames) == ["dog", "cat"]
    assert list(labels.splits["train"].labels) == content["splits"]["train"]["labels"]


def test_a_set_of_the_field_takes_names_too(asked: Asked, home: Home, tmp_path: Path) -> None:
    names = [f"the digit {k}" for k in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    run(asked("digits", classnames=tmp_path / "names.txt"), home)
    assert list(home.find().labels.classnames) == names


def test_own_folders_are_spoken_apart_and_stored_as_they_are(
    asked: Asked, home: Home, tmp_path: Path, paint: Painter
) -> None:
    for number in range(10):
        paint(tmp_path / "mine" / ("hot-dog", "motorVehicle")[number % 2] / f"{number}.png", number)
    run(asked(tmp_path / "mine"), home)
    found = home.find()
    assert list(found.labels.classnames) == ["hot-dog", "motorVehicle"]
    assert found.text is not None
    assert [row[0] for row in found.text.prompts] == [
        "a picture of a hot dog.",
        "a picture of a motor Vehicle.",
    ]


def test_sentences_by_class_are_averaged_class_by_class(
    asked: Asked, home: Home, coded: Path, tmp_path: Path, tower: Path
) -> None:
    from cacheclip.task import class_text

    sentences = {"n02084071": ["a hound"], "n02121808": ["a cat", "one tabby", "a small tiger"]}
    (tmp_path / "cupl.json").write_text(json.dumps(sentences))
    report = run(asked(coded, template=str(tmp_path / "cupl.json")), home)
    assert "cupl.json: read as sentences by class, 1 to 3 a class" in report.notices
    text = home.find().text
    assert text is not None
    assert text.prompts == list(sentences.values())
    assert text.template == "cupl.json"

    import torch

    ensembles = class_text(torch.from_numpy(text.load()), ["norm-mean", "raw-mean"])
    encoder = load(EncoderSpec(f"local-dir:{tower}", device="cpu"))
    for c, own in enumerate(sentences.values()):
        raw, _ = encoder.encode_texts(own)
        unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).mean(0)
        want = {"raw-mean": raw.mean(0), "norm-mean": unit / np.linalg.norm(unit)}
        for name, mean in want.items():
            np.testing.assert_allclose(ensembles[name][c], mean, rtol=2e-3, atol=1e-3)
