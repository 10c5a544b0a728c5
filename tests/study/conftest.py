"""A home folder with a small feature set, written through the store itself; no encoder runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cacheclip.store.home import Home
from tests.makers import build_home


@pytest.fixture
def make_home() -> Callable[..., Home]:
    return build_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return build_home(tmp_path / "home")
