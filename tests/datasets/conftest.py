import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[[Path, str], None]:
    """Writes a small picture, another one for every path, making folders as needed."""

    def write(root: Path, relative: str) -> None:
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        red, green, blue = hashlib.sha256(relative.encode()).digest()[:3]
        Image.new("RGB", (12, 8), (red, green, blue)).save(path)

    return write


@pytest.fixture
def tree(picture: Callable[[Path, str], None], tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """Makes a folder "birds" of these pictures."""

    def make(relatives: Iterable[str]) -> Path:
        root = tmp_path / "birds"
        for relative in relatives:
            picture(root, relative)
        return root

    return make


@pytest.fixture
def food(picture: Callable[[Path, str], None], tmp_path: Path) -> Path:
    """A data folder with Food-101 as its archive lays it out: 3 classes, 10 train and 4 test."""
    import json

    root = tmp_path / "data" / "food-101"
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    # Neither the classes nor the pictures stand in order: the official JSON lists do not.
    for name in ("waffles", "apple_pie", "pho"):
        numbers = [str(1000 + 37 * (k * 5 % 14)) for k in range(14)]
        lists["train"][name] = [f"{name}/{number}" for number in numbers[:10]]
        lists["test"][name] = [f"{name}/{number}" for number in numbers[10:]]
        for number in numbers:
            picture(root, f"images/{name}/{number}.jpg")
    meta = root / "meta"
    meta.mkdir()
    for split, classes in lists.items():
        (meta / f"{split}.json").write_text(json.dumps(classes))
        lines = [picture for pictures in classes.values() for picture in sorted(pictures)]
        (meta / f"{split}.txt").write_text("\n".join(lines) + "\n")
    (meta / "classes.txt").write_text("apple_pie\npho\nwaffles\n")
    return root.parent
