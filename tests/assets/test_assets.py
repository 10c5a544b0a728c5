"""The pictures and weights that ship: sizes, licences, splits, and what nano may not have seen."""

import importlib.util
import io
import json
import zipfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import cacheclip

ASSETS = Path(cacheclip.__file__).parent / "assets"
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    with zipfile.ZipFile(ASSETS / "clipart" / "images.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def picture_hash() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "picture_hash", RECIPES / "nano" / "picture_hash.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_ships_is_small_and_has_its_licence_beside_it() -> None:
    assert (ASSETS / "clipart" / "images.zip").stat().st_size <= 4.5 * MEGABYTE
    assert (ASSETS / "nano" / "nano-v1.safetensors").stat().st_size <= 10 * MEGABYTE
    assert "public domain" in (ASSETS / "clipart" / "LICENSE").read_text().lower()
    notice = (ASSETS / "nano" / "NOTICE").read_text()
    for source in ("EfficientNet", "WordNet", "MiniLM", "noto", "fluent", "BPE"):
        assert source.lower() in notice.lower(), source


def test_clipart_is_split_by_the_rank_of_its_ids(pictures: dict[str, bytes]) -> None:
    about = json.loads((ASSETS / "clipart" / "clipart.json").read_text())
    images = about["images"]
    assert (len(about["classes"]), len(images)) == (20, 977)
    assert {image["id"] for image in images} == set(pictures)
    for label in range(20):
        own = [image for image in images if image["label"] == label]
        ranked = sorted(own, key=lambda image: sha256(image["id"].encode()).hexdigest())
        splits = ["train"] * 20 + ["val"] * 4 + ["test"] * (len(own) - 24)
        assert [image["split"] for image in ranked] == splits
    assert Counter(image["split"] for image in images) == {"train": 400, "val": 80, "test": 497}


def test_every_picture_is_a_lossless_96_pixel_square(pictures: dict[str, bytes]) -> None:
    for name, data in pictures.items():
        assert data[12:16] == b"VP8L", name  # WebP's lossless format
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (96, 96)


def test_nano_was_not_trained_on_a_clipart_picture_or_a_near_duplicate(
    pictures: dict[str, bytes], picture_hash: ModuleType
) -> None:
    about = json.loads((ASSETS / "nano" / "train_hashes.json").read_text())
    trained = np.fromfile(ASSETS / "nano" / "train_hashes.bin", np.uint8).reshape(-1, 32)
    assert len(trained) == about["count"]
    limit = about["max_near_duplicate_bits"]
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1)
    for name, data in pictures.items():
        with Image.open(io.BytesIO(data)) as image:
            own = np.frombuffer(picture_hash.picture_hash(image), np.uint8)
        distance = bits[trained ^ own].sum(1)
        assert distance.min() > limit, name


def test_the_near_duplicate_test_finds_a_recoloured_twin(
    pictures: dict[str, bytes], picture_hash: ModuleType
) -> None:
    """The twin of the test above: it can fail."""
    limit = json.loads((ASSETS / "nano" / "train_hashes.json").read_text())[
        "max_near_duplicate_bits"
    ]
    found = 0
    for data in list(pictures.values())[::20]:
        with Image.open(io.BytesIO(data)) as image:
            rgb = image.convert("RGB")
            red, green, blue = rgb.split()
            twin = Image.merge("RGB", (green, blue, red))
            a, b = (
                np.unpackbits(np.frombuffer(picture_hash.picture_hash(i), np.uint8))
                for i in (rgb, twin)
            )
        found += int((a != b).sum() <= limit)
    assert found >= 0.9 * len(list(pictures.values())[::20])
