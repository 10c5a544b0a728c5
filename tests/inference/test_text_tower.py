"""A head whose answers take the text tower: it comes from the encoder, or from its store."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from cacheclip.api.head import Head
from cacheclip.api.verbs import fit
from cacheclip.encoders.base import Encoder
from cacheclip.errors import InputError
from cacheclip.features import load
from cacheclip.inference.pictures import predict
from tests.makers import build_home, cacheclip
from tests.study.test_frozen_parts import tower, with_tower


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose encoder kept its text tower."""
    root = tmp_path_factory.mktemp("tower")
    with_tower(build_home(root))
    return root


@pytest.fixture(scope="module")
def head(root: Path) -> Head:
    data = load(home=root)
    return fit("cocoop", data, shots=2, seed=1, select="fixed", epochs=2)


@pytest.fixture(scope="module")
def bundle(root: Path, head: Head) -> Path:
    return head.save(root / "head.safetensors")


def test_a_cached_split_and_pictures_are_answered_alike(
    root: Path, head: Head, bundle: Path, tmp_path: Path
) -> None:
    told = cacheclip("predict", bundle, "--on", "toys/test", "--home", root, "--json")
    assert told.code == 0, told.err
    cached = json.loads(told.out)
    right = np.mean([one["class"] == one["label"] for one in cached])
    assert head.row is not None
    assert head.row.top1_test == pytest.approx(right)
    assert head.score(load(home=root)) == head.row.top1_test
    x = load(home=root).test.X[:3]
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    encoder = SimpleNamespace(
        transform=lambda picture: torch.zeros(3, 8, 8),
        encode_images=lambda pixels: {"image": np.asarray(x, np.float32)},
        text_tower=lambda: {name: part.numpy() for name, part in tower().items()},
    )
    found = list(predict(head.bundle, cast(Encoder, encoder), paths, 1))
    assert [one.top[0][0] for one in found] == [one["class"] for one in cached[:3]]
    for one, other in zip(found, cached, strict=False):
        assert one.top[0][1] == pytest.approx(other["top"][0]["probability"], rel=1e-4)


def test_rows_alone_are_refused_with_a_way_on(bundle: Path, tmp_path: Path) -> None:
    x = np.ones((2, 16), np.float32)
    np.save(tmp_path / "x.npy", x)
    told = cacheclip("predict", bundle, "--features", tmp_path / "x.npy")
    assert "cocoop reads the encoder's tower, which a file of features does not have" in told.err
    assert "--on SET" in told.err
    with pytest.raises(InputError, match="reads the encoder's tower beside") as error:
        Head.load(bundle).predict(cast(Any, x))
    assert "head.score(data)" in error.value.fix
