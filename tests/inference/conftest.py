"""A small home, a bundle fitted on it, and its raw features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cacheclip.store.home import Home
from tests.inference.asking import fit
from tests.makers import Said, build_home, cacheclip


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of four classes, two test pictures of which failed, and a bundle fitted on it."""
    root = tmp_path_factory.mktemp("rows")
    build_home(root / "home", failed=2)
    fit(root / "home", root / "b.safetensors")
    return root


@pytest.fixture
def bundle(root: Path) -> Path:
    return root / "b.safetensors"


@pytest.fixture
def on(root: Path) -> Callable[..., Said]:
    """Classify a set of the home."""

    def ask(name: str, *options: str | Path) -> Said:
        words = (root / "b.safetensors", "--on", name, "--home", root / "home", *options)
        return cacheclip("predict", *words)

    return ask


@pytest.fixture
def x(root: Path) -> NDArray[np.float32]:
    """The raw features of the test split, [38, 16]: without the pictures that failed."""
    read = Home(root / "home").find("toys").store("test").load(normalize=False)
    return read.features[read.ok]
