"""One world to fail in for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.failing.machine import Machine
from tests.failing.trials import World, failing_world


@pytest.fixture(scope="module")
def failing() -> Iterator[tuple[Machine, World]]:
    with failing_world() as both:
        yield both
