"""Arrays as somebody might bring them, and the file that they come in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cacheclip.store.home import Home

Arrays = dict[str, NDArray[Any]]
CLASSES, DIM, ROWS = 3, 8, 36


@pytest.fixture
def arrays() -> Arrays:
    """All seven, [36, 8] float32; four rows in six are for training."""
    random = np.random.default_rng(0)
    turns = np.arange(ROWS) // CLASSES
    return {
        "features": random.normal(size=(ROWS, DIM)).astype(np.float32),
        "labels": np.arange(ROWS) % CLASSES,
        "split": np.array(["train", "train", "val", "test"])[turns % 4],
        "text_features": random.normal(size=(CLASSES, DIM)).astype(np.float32),
        "logit_scale": np.array(50.0),
        "classnames": np.array(["ant", "bee", "cow"]),
        "sample_ids": np.array([f"img/{k}.png" for k in range(ROWS)]),
    }


@pytest.fixture
def save(tmp_path: Path, arrays: Arrays) -> Callable[..., Path]:
    """Write the arrays with some changed or, where None, left out."""

    def write(file: str = "toys.npz", **changes: Any) -> Path:
        content = {name: x for name, x in (arrays | changes).items() if x is not None}
        np.savez(tmp_path / file, **content)
        return tmp_path / file

    return write


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")
