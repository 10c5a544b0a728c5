import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from cacheclip.cli.main import cacheclip
from cacheclip.errors import InputError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home

Painter = Callable[[Path, int], None]
CLASSES = ("apple_pie", "pho", "waffles")


@pytest.fixture
def data_root(tmp_path: Path, paint: Painter) -> Path:
    """Give a folder that holds Food-101 as torchvision unpacks it, with three classes."""
    root = tmp_path / "data" / "food-101"
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, name in enumerate(CLASSES):
        names = [f"{name}/{1000 * label + row}" for row in range(12)]
        for row, sample in enumerate(names):
            paint(root / "images" / f"{sample}.jpg", 100 * label + row)
        lists["train"][name], lists["test"][name] = names[:8], names[8:]
    (root / "meta").mkdir()
    for split, by_class in lists.items():
        (root / "meta" / f"{split}.json").write_text(json.dumps(by_class))
        lines = [sample for names in by_class.values() for sample in names]
        (root / "meta" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root.parent


def test_a_food101_tree_and_a_checkpoint_file_run_to_the_end(
    data_root: Path, tower: Path, tmp_path: Path
) -> None:
    request = ExtractRequest(
        "food101",
        model="test-tower",
        pretrained=str(tower / "open_clip_pytorch_model.bin"),
        preprocess_from=str(tower / "preprocess.json"),
        data_root=data_root,
        device="cpu",
    )
    home = Home(tmp_path / "home")
    report = run(request, home)
    assert report.dataset == "torch/food101"
    assert (report.encoded, report.failed) == (36, 0)
    found = home.find("food101", model="test-tower")
    assert {split: len(part.labels) for split, part in found.labels.splits.items()} == {
        "train": 18,
        "val": 6,
        "test": 12,
    }
    assert found.encoder["pretrained"] == "open_clip_pytorch_model.bin"
    assert found.text is not None
    assert len(found.text.prompts) == 3
    assert run(request, home).encoded == 0


def test_a_picture_that_is_gone_fails_a_built_in_set(
    data_root: Path, tower: Path, tmp_path: Path
) -> None:
    request = ExtractRequest(
        "food101", model=f"local-dir:{tower}", data_root=data_root, device="cpu"
    )
    (data_root / "food-101" / "images" / "pho" / "1003.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"pho/1003\.jpg: truncated"):
        run(request, Home(tmp_path / "home"))


def test_another_copy_of_the_data_is_not_taken_for_the_first_in_silence(
    data_root: Path, tower: Path, tmp_path: Path
) -> None:
    home = Home.resolve(tmp_path / "home")
    request = ExtractRequest(
        "food101", model=f"local-dir:{tower}", data_root=data_root, device="cpu"
    )
    run(request, home)
    copy = tmp_path / "copy"
    shutil.copytree(data_root, copy)
    report = run(replace(request, data_root=copy), home)
    moved = f"torch/food101 lies in {copy / 'food-101'}; its last extraction found it in "
    assert [line for line in report.notices if line.startswith(moved)]
    assert not any("other sizes" in line for line in report.notices)

    picture = next((copy / "food-101" / "images" / "pho").glob("*.jpg"))
    Image.new("RGB", (20, 20)).save(picture)
    for _ in range(2):
        report = run(replace(request, data_root=copy), home)
        assert report.encoded == 0
        (told,) = [line for line in report.notices if "other sizes" in line]
    remove, _, command = told.partition("to encode these: ")[2].partition(" && ")
    for folder in shlex.split(remove)[2:]:
        shutil.rmtree(folder)
    assert f"--data-root {copy} " in command
    done = CliRunner().invoke(cacheclip, shlex.split(command)[1:])
    assert done.exception is None, done.output
    report = run(replace(request, data_root=copy), home)
    assert not any("other sizes" in line or "lies in" in line for line in report.notices)
