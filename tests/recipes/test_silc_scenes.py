"""Composed pictures: what is a thing, and that the labels lie where the drawings do."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("scenes", RECIPES / "silc" / "scenes.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scenes", module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_white_joined_to_the_frame_is_ground_and_enclosed_white_is_not(scenes: ModuleType) -> None:
    pixels = np.full((6, 6, 3), 255, np.uint8)
    pixels[1:5, 1:5] = 0
    pixels[2:4, 2:4] = 255
    expected = np.zeros((6, 6), bool)
    expected[1:5, 1:5] = True
    assert (scenes.thing(pixels) == expected).all()


def test_the_labels_of_a_scene_lie_where_its_drawings_do(scenes: ModuleType) -> None:
    drawings = [
        scenes.Drawing(np.full((96, 96, 3), 10 * label, np.uint8), np.ones((96, 96), bool), label)
        for label in (0, 0, 1, 2, 3)
    ]
    for scene in scenes.compose_scenes(drawings, 4, seed=1):
        ground = scene.labels == scenes.BACKGROUND
        found = np.unique(scene.labels[~ground])
        assert len(found) == scenes.THINGS
        for label in found:
            assert (scene.pixels[scene.labels == label] == 10 * label).all()
        assert (scene.pixels[ground] >= 215).all()
