"""Scenes follow from their seed, and their boxes are where things stand."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacheclip.datasets.scenes import LEAST_IOU, NOVEL, SIDE, Box, iou, make_scenes, moved


def read(folder: Path, split: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{split}.json").read_text())
    return content


def boxes(content: dict[str, Any], kind: str, image: int) -> list[Box]:
    return [tuple(one["bbox"]) for one in content[kind] if one["image_id"] == image]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(folder, seed=1, train=4, test=3)
    return folder


def test_a_seed_gives_the_same_scenes_and_another_seed_others(scenes: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "again", seed=1, train=2, test=1)
    make_scenes(tmp_path / "other", seed=2, train=1, test=1)
    name = "pictures/train-0001.png"
    assert (tmp_path / "again" / name).read_bytes() == (scenes / name).read_bytes()
    again = read(tmp_path / "again", "train")
    whole = read(scenes, "train")
    assert boxes(again, "proposals", 2) == boxes(whole, "proposals", 2)
    assert boxes(read(tmp_path / "other", "train"), "proposals", 1) != boxes(whole, "proposals", 1)


def test_novel_classes_are_told_in_test_alone(scenes: Path) -> None:
    for split in ("train", "test"):
        content = read(scenes, split)
        novel = {one["id"] for one in content["categories"] if one.get("novel")}
        assert [one["name"] for one in content["categories"] if one["id"] in novel] == list(NOVEL)
        told = {one["category_id"] for one in content["annotations"]}
        assert told - novel and bool(told & novel) == (split == "test")


def test_every_thing_is_proposed_well_and_badly_and_scores_follow(scenes: Path) -> None:
    content, fit, score = read(scenes, "test"), [], []
    for image in content["images"]:
        true = boxes(content, "annotations", image["id"])
        proposed = [one for one in content["proposals"] if one["image_id"] == image["id"]]
        best = [max(iou(box, tuple(one["bbox"])) for one in proposed) for box in true]
        assert min(best) > 0.5
        assert [one["score"] for one in proposed] == sorted(
            (one["score"] for one in proposed), reverse=True
        )
        fit += [max(iou(tuple(one["bbox"]), box) for box in true) for one in proposed]
        score += [one["score"] for one in proposed]
        for left, top, width, height in boxes(content, "proposals", image["id"]):
            assert left >= 0 and top >= 0 and left + width <= SIDE + 0.01 >= top + height
    assert min(fit) < 0.1 and max(fit) > 0.9
    assert np.corrcoef(fit, score)[0, 1] > 0.3


def test_a_thing_stands_in_its_box_and_not_around_it(scenes: Path) -> None:
    content = read(scenes, "test")
    for image in content["images"]:
        levels = np.asarray(Image.open(scenes / image["file_name"]), np.float32)
        for left, top, width, height in boxes(content, "annotations", image["id"]):
            inside = levels[int(top) : int(top + height), int(left) : int(left + width)]
            assert inside.std(axis=(0, 1)).mean() > 8  # the grain alone has 4


def test_a_moved_box_overlaps_as_much_as_was_wanted() -> None:
    chance = random.Random(3)
    for _ in range(50):
        box = (60.0, 70.0, chance.uniform(20, 60), chance.uniform(20, 60))
        wanted = chance.uniform(LEAST_IOU, 1)
        assert iou(box, moved(box, wanted, chance)) == pytest.approx(wanted, abs=0.01)
    assert iou((0, 0, 2, 2), (1, 1, 2, 2)) == pytest.approx(1 / 7)
    assert iou((0, 0, 2, 2), (2, 0, 2, 2)) == 0
