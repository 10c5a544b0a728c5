"""Turned pictures and white levels: in the features, in the key, and told before any work."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacheclip.datasets.base import resolve
from cacheclip.errors import UsageError
from cacheclip.extraction.run import run
from cacheclip.store.home import Home
from cacheclip.store.reader import Store

Write = Callable[[Image.Image, Path], None]


def write_png(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".png"))


def write_turned(picture: Image.Image, path: Path) -> None:
    """As a camera does that was held sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".png"), exif=exif)


def write_twelve_bits(picture: Image.Image, path: Path) -> None:
    grey = np.asarray(picture.convert("L")).astype(np.uint32) * 4095 // 255
    Image.fromarray(grey.astype(np.uint16)).save(path.with_suffix(".tif"))


def write_sixteen_bits(picture: Image.Image, path: Path) -> None:
    grey = np.asarray(picture.convert("L")).astype(np.uint32) * 257
    Image.fromarray(grey.astype(np.uint16)).save(path.with_suffix(".png"))


def folder(root: Path, write: Write) -> Path:
    for number in range(12):
        path = root / ("ant" if number % 2 else "bee") / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
        levels[0, 0] = 255
        write(Image.fromarray(levels), path)
    return root


def features(report: Any) -> np.ndarray[Any, Any]:
    """Those of all splits in order of their sample ids."""
    stores = [Store.open(path) for path in report.stores if path.name.startswith("image-")]
    rows = [
        (Path(name).stem, row)
        for store in stores
        for name, row in zip(store.ids(), store.read_rows(range(store.rows)).features, strict=True)
    ]
    return np.stack([row for _, row in sorted(rows, key=lambda pair: pair[0])])


def preprocess(report: Any) -> dict[str, Any]:
    return dict(Store.open(report.stores[0]).key["preprocess"])


def ids(root: Path) -> list[str]:
    return sorted(path.stem for path in root.rglob("*.*"))


def test_folders_are_turned_upright_unless_told(asked: Any, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    upright = run(asked(folder(tmp_path / "upright", write_png)), home)
    turned_folder = folder(tmp_path / "turned", write_turned)
    turned = run(asked(turned_folder), home)
    stored = run(asked(turned_folder, orientation="as-stored"), home)
    assert ids(tmp_path / "turned") == ids(tmp_path / "upright")
    np.testing.assert_array_equal(features(turned), features(upright))
    assert not np.allclose(features(stored), features(turned), atol=1e-2)
    assert (preprocess(turned)["exif"], preprocess(stored)["exif"]) == (True, False)
    assert stored.encoded == turned.encoded == 12  # of another key: nothing was copied
    assert turned.set_digest != stored.set_digest
    command = Store.open(stored.stores[0]).header.extract_command
    assert command.endswith("--orientation as-stored")


def test_twelve_bits_are_told_before_the_work_and_stretched_where_asked(
    asked: Any, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    twelve = folder(tmp_path / "twelve", write_twelve_bits)
    told: list[str] = []
    work: list[int] = []
    dark = run(asked(twelve), home, lambda what, done, total: work.append(len(told)), told.append)
    (line,) = [line for line in told if "--white-level" in line]
    assert "greatest level is 4,095" in line
    assert line.endswith("add --white-level 4095")
    assert min(work) > told.index(line)
    assert tuple(told) == dark.notices
    light = run(asked(twelve, white_level=4095), home)
    assert not any("--white-level" in line for line in light.notices)
    assert preprocess(light)["white_level"] == 4095
    assert "white_level" not in preprocess(dark)
    full = run(asked(folder(tmp_path / "full", write_sixteen_bits)), home)
    assert not any("--white-level" in line for line in full.notices)
    assert np.abs(features(light) - features(full)).max() < 0.1 < np.abs(features(dark)).max()
    assert np.linalg.norm(features(dark) - features(full)) > 5 * np.linalg.norm(
        features(light) - features(full)
    )
    command = Store.open(light.stores[0]).header.extract_command
    assert command.endswith("--white-level 4095")


def test_bright_sixteen_bits_anywhere_in_the_set_keep_it_quiet(asked: Any, tmp_path: Path) -> None:
    mixed = folder(tmp_path / "mixed", write_twelve_bits)
    shutil.copytree(folder(tmp_path / "full", write_sixteen_bits), mixed, dirs_exist_ok=True)
    report = run(asked(mixed), Home(tmp_path / "home"))
    assert not any("--white-level" in line for line in report.notices)


def test_a_set_of_the_field_is_read_as_published(asked: Any, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for option in ({"orientation": "exif"}, {"white_level": 4095}):
        with pytest.raises(UsageError, match="as it was published"):
            run(asked("digits", **option), home)
    from cacheclip.extraction.plan import make_plan

    assert resolve("digits", data_root=Path("data")).builtin
    for told in (None, "as-stored"):
        plan = make_plan(asked("digits", orientation=told), home)
        assert plan.reading.preprocess() == {}
