"""`predict` on pictures as they come: turned, listed, piped, labelled, broken."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacheclip.bundle import Bundle
from cacheclip.inference.answer import Answer, Tally, label_of
from tests.makers import cacheclip

Cli = Callable[[Sequence[str]], Any]


@pytest.fixture(scope="session")
def bundle(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of red, green and blue pictures."""
    out = tmp_path_factory.mktemp("bundle") / "b.safetensors"
    fit(world.home, out)
    return out


def run(*arguments: str) -> None:
    """Run a command in this process; it goes well."""
    answer = cacheclip(*arguments)
    assert answer.code == 0, answer.err


def fit(home: Path, out: Path) -> None:
    wanted = ("--method", "nearest-mean", "--shots", "4", "--select", "fixed")
    run("fit", *wanted, "--out", str(out), "--home", str(home))


@pytest.fixture
def predict(cli: Cli, world: Any) -> Callable[..., Any]:
    def run(bundle: Path, *arguments: str | Path) -> Any:
        return cli(["predict", str(bundle), "--model", world.model, *map(str, arguments)])

    return run


@pytest.fixture
def mixed(world: Any, tmp_path: Path) -> Path:
    """A folder of one good picture, a broken one, a pipe, and a file that needs a decoder."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(world.pictures / "red" / "00.png", folder / "good.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "film.mov").write_bytes(b"no picture")
    (folder / "Thumbs.db").write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.jpg")
    return folder


def test_a_pipe_does_not_hang_and_what_is_left_out_is_said(
    predict: Any, bundle: Path, mixed: Path
) -> None:
    answer = predict(bundle, mixed, "--json")
    assert answer.code == 0, answer.err
    assert "2 files not read: .jpg 1 (not a regular file), .mov 1" in answer.err
    assert "1 of 2 pictures could not be read" in answer.err
    broken, good = json.loads(answer.out)
    assert list(broken) == list(good) == ["image", "class", "probability", "top", "error"]
    assert (broken["class"], broken["probability"], broken["top"]) == (None, None, [])
    assert broken["error"].startswith("decode")
    assert good["error"] is None
    assert len(good["top"]) == 3


def test_what_can_be_done_is_done_and_only_nothing_is_an_error(
    predict: Any, bundle: Path, mixed: Path
) -> None:
    there = predict(bundle, mixed / "pipe.jpg", mixed / "gone.png", mixed / "good.png", "--json")
    assert there.code == 0, there.err
    errors = [answer["error"] for answer in json.loads(there.out)]
    assert errors == ["other: not a regular file", "missing: no such file", None]
    nothing = predict(bundle, mixed / "pipe.jpg", mixed / "gone.png", "--json")
    assert nothing.code == 3
    assert len(json.loads(nothing.out)) == 2
    absent = predict(bundle, mixed / "gone.png", mixed / ("x" * 300))
    assert absent.code == 3
    assert "error: there is no such picture" in absent.err


def test_a_folder_of_heic_alone_names_what_to_install(
    predict: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cacheclip.datasets import listing, suffixes

    fresh = suffixes.readable.__wrapped__
    monkeypatch.setattr(suffixes, "has_heif", lambda: False)
    monkeypatch.setattr(suffixes, "readable", fresh)
    monkeypatch.setattr(listing, "readable", fresh)
    (tmp_path / "phone").mkdir()
    for name in ("1.HEIC", "2.heic"):
        (tmp_path / "phone" / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    answer = predict(bundle, tmp_path / "phone")
    assert answer.code == 3
    assert "2 files not read: .heic 2" in answer.err
    assert answer.err.splitlines()[-1] == "fix: pip install 'cacheclip[heic]'"


def test_paths_come_from_stdin_and_answers_go_out_with_commas(
    world: Any, bundle: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "it's, odd.png"
    shutil.copy(world.pictures / "blue" / "01.png", odd)
    paths = [world.pictures / "red" / "00.png", odd, tmp_path / "gone.png"]
    words = ("predict", bundle, "-", "--csv", "--top", "2", "--model", world.model)
    told = cacheclip(*words, stdin="".join(f"{path}\n" for path in paths) + "\n")
    assert told.code == 0, told.err
    rows = list(csv.DictReader(io.StringIO(told.out)))
    names = ["image", "class", "probability", "class_2", "probability_2", "label", "error"]
    assert list(rows[0]) == names
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    assert [row["class"] for row in rows] == ["red", "blue", ""]
    assert float(rows[0]["probability"]) > float(rows[0]["probability_2"])
    assert rows[2]["error"] == "missing: no such file"
    assert "1 of 3 pictures could not be read" in told.err


def test_an_empty_stdin_is_three_lines(bundle: Path) -> None:
    told = cacheclip("predict", bundle, "-")
    assert told.code == 3
    assert "error: no picture was named\nwhere: standard input" in told.err


def test_raw_gives_scores_in_place_of_probabilities(predict: Any, bundle: Path, world: Any) -> None:
    picture = world.pictures / "red" / "00.png"
    (scores,) = json.loads(predict(bundle, picture, "--raw", "--json").out)
    (answer,) = json.loads(predict(bundle, picture, "--json").out)
    assert "probability" not in scores
    logits = np.array([part["score"] for part in scores["top"]])
    p = np.exp(logits - logits.max())
    given = [part["probability"] for part in answer["top"]]
    np.testing.assert_allclose(p / p.sum(), given, atol=1e-5)
    assert predict(bundle, picture, "--raw").out.split()[:2] == ["class", "score"]
    refused = predict(bundle, picture, "--csv", "--json")
    assert refused.code == 2
    assert "do not go together" in refused.err


def test_a_strangers_bundle_fetches_nothing_and_one_made_up_answers_nothing(
    cli: Cli, bundle: Path, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # what the command sets is taken back with this
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    good, out = Bundle.read(bundle), tmp_path / "b.safetensors"
    picture = str(world.pictures / "red" / "00.png")
    named = {"name": "hf-hub:nobody/nothing", "pretrained": "0123abcd"}
    replace(good, encoder=good.encoder | named).write(out)
    answer = cli(["predict", str(out), picture])
    error, where, fix = answer.err.splitlines()
    assert (answer.code, answer.out) == (5, "")
    assert "hf-hub:nobody/nothing is not on this machine" in error
    assert "open_clip_config.json and the weights" in where
    assert fix.endswith("--fetch")
    replace(good, classnames=good.classnames[:-1]).write(out)
    answer = cli(["predict", str(out), picture])
    assert (answer.code, answer.out) == (3, "")
    assert "2 class names for 3 classes" in answer.err
    assert len(answer.err.splitlines()) == 3


def test_the_class_comes_first_and_a_pipe_gets_the_whole_path(
    predict: Any, bundle: Path, world: Any
) -> None:
    picture = world.pictures / "red" / "00.png"
    head, _, line = predict(bundle, picture).out.splitlines()
    assert head.split() == ["class", "probability", "image", "then"]
    assert line.startswith("red ")
    assert str(picture) in line


@pytest.mark.parametrize("split", ["", "test"])
def test_a_labelled_folder_gets_its_accuracy(
    predict: Any, bundle: Path, world: Any, tmp_path: Path, split: str
) -> None:
    root = tmp_path / "labelled"
    for name in ("red", "blue"):
        shutil.copytree(world.pictures / name, root / split / name)
    shutil.copy(world.pictures / "red" / "00.png", root / split / "blue" / "wrong.png")
    shutil.copy(world.pictures / "red" / "00.png", root / "loose.png")
    answer = predict(bundle, root, "--json")
    labels = [part["label"] for part in json.loads(answer.out)]
    assert (labels.count("red"), labels.count("blue"), labels.count(None)) == (15, 16, 1)
    assert "accuracy 96.8 % of 31 pictures" in answer.err
    assert "95 % interval 83.8 to 99.4" in answer.err
    assert "1 in no such folder" in answer.err
    assert "recall, least first: blue 15 of 16, red 15 of 15" in answer.err


def test_no_accuracy_where_no_folder_is_a_class(predict: Any, bundle: Path, mixed: Path) -> None:
    assert "accuracy" not in predict(bundle, mixed).err


@pytest.mark.parametrize(
    ("folders", "label"),
    [
        ((), None),
        (("bird",), "bird"),
        (("test1", "bird"), "bird"),
        (("Bird",), None),
        (("tools", "saw"), "tools/saw"),
        (("saw",), None),
        (("bird", "fruit"), "bird"),
        (("cafe\u0301",), "caf\u00e9"),
    ],
)
def test_which_class_the_folders_name(folders: tuple[str, ...], label: str | None) -> None:
    assert label_of(folders, ["bird", "fruit", "tools/saw", "caf\u00e9"]) == label


def accuracy(*answers: Answer) -> list[str]:
    """What is said of answers of the classes x and 0 to 11."""
    tally = Tally(["x", *map(str, range(12))])
    for answer in answers:
        tally.add(answer)
    return list(tally.lines("pictures", "in no folder", ""))


def test_unreadable_pictures_do_not_count_in_the_accuracy() -> None:
    right = Answer("a", (("x", 0.9),), label="x")
    broken = Answer("b", (), "decode: broken", label="x")
    (line,) = accuracy(right, broken)
    assert line.startswith("accuracy 100.0 % of 1 pictures")
    assert accuracy(broken) == []


def test_recall_names_the_worst_classes_and_counts_the_rest() -> None:
    answers = [Answer("a", ((str(k), 1.0),), label=str(k)) for k in range(12)]
    answers.append(Answer("b", (("0", 1.0),), label="11"))
    recall = accuracy(*answers)[1]
    assert recall.startswith("recall, least first: 11 1 of 2, 0 1 of 1")
    assert recall.endswith(", 4 more")


def test_labels_of_no_class_of_the_bundle_are_counted_apart() -> None:
    answers = [Answer(str(k), (("x", 0.9),), label=label) for k, label in enumerate("xyy")]
    (line,) = accuracy(*answers, Answer("3", (("x", 0.9),)))
    assert line.startswith("accuracy 100.0 % of 1 pictures, 95 % interval ")
    assert line.endswith("; 1 in no folder; 2 of classes that the bundle does not know")


def extract(home: Path, pictures: Path, model: str, *options: str) -> None:
    told = ("--dataset", str(pictures), "--model", model, "--home", str(home))
    run("extract", *told, *options)


def halves(root: Path, *, twelve: bool = False) -> Path:
    """Pictures whose class is which half is bright: turned by 90 degrees they would be neither."""
    random = np.random.default_rng(5)
    for k in range(20):
        name = ("left", "right")[k % 2]
        grey = random.integers(0, 60, (24, 24))
        grey[:, :12] += 180 if name == "left" else 0
        grey[:, 12:] += 180 if name == "right" else 0
        (root / name).mkdir(parents=True, exist_ok=True)
        if twelve:
            levels = (grey * 4095 // 255).astype(np.uint16)
            Image.fromarray(levels).save(root / name / f"{k}.tif")
        else:
            Image.fromarray(grey.astype(np.uint8)).save(root / name / f"{k}.png")
    return root


def sideways(pictures: Path, out: Path) -> Path:
    """The same pictures as a camera stores them that was held sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in pictures.glob("*/*.png"):
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
        turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        turned.save(out / path.parent.name / path.name, exif=exif)
    return out


def answers_of(predict: Any, bundle: Path, folder: Path) -> list[tuple[str, float]]:
    found = json.loads(predict(bundle, folder, "--json").out)
    return [(answer["class"], round(answer["probability"], 5)) for answer in found]


def test_pictures_are_turned_unless_the_bundles_folder_was_taken_as_stored(
    predict: Any, world: Any, tmp_path: Path
) -> None:
    pictures = halves(tmp_path / "halves")
    turned = sideways(pictures, tmp_path / "sideways")
    for option, alike in (("exif", True), ("as-stored", False)):
        home, out = tmp_path / option, tmp_path / f"{option}.safetensors"
        extract(home, pictures, world.model, "--orientation", option)
        fit(home, out)
        upright = answers_of(predict, out, pictures)
        assert (answers_of(predict, out, turned) == upright) == alike


def test_the_white_level_travels_in_the_bundle(predict: Any, world: Any, tmp_path: Path) -> None:
    twelve = halves(tmp_path / "twelve", twelve=True)
    eight = halves(tmp_path / "eight")
    home, out = tmp_path / "home", tmp_path / "b.safetensors"
    extract(home, twelve, world.model, "--white-level", "4095")
    fit(home, out)
    found = [name for name, _ in answers_of(predict, out, twelve)]
    assert found == [name for name, _ in answers_of(predict, out, eight)]
    assert found.count("left") > 5
