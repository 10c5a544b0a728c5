"""The same of `extract`, which takes as long as all others together, in a file of its own.

Of a loop's calls the first fails, and errors take turns; with `--all` each call fails with each
error.
"""

import pytest

from tests.failing.machine import KINDS, Machine
from tests.failing.trials import World, faults


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_of_an_extraction_that_fails_is_three_lines_and_nothing_is_lost(
    kind: str, failing: tuple[Machine, World], every: bool
) -> None:
    wrong = faults(*failing, "extract", kind, every=every)
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
