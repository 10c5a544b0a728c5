"""Arrays as a researcher has them: raw features of five classes, text, a split."""

from typing import Any

import numpy as np
import pytest

from cacheclip.features import Features

CLASSES, DIM = 5, 16


@pytest.fixture
def arrays() -> dict[str, Any]:
    """X [150, 16] of norms around 20, y, split, text [5, 16] and its scale."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, DIM))
    y = np.repeat(np.arange(CLASSES), 30)
    return {
        "X": 5 * (centres[y] + 1.2 * random.normal(size=(len(y), DIM))),
        "y": y,
        "split": np.tile(["train", "train", "val", "test", "train"], 30),
        "text": centres + random.normal(size=centres.shape),
        "logit_scale": 50.0,
    }


@pytest.fixture
def data(arrays: dict[str, Any]) -> Features:
    return Features.of(**arrays)
