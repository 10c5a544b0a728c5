"""Every line whose call can fail does, once: three lines, nothing lost, and the next run is right.

Of a loop's calls the first fails, and errors take turns; with `--all` each call fails with each
error.
"""

import pytest

from tests.failing.machine import KINDS, Machine
from tests.failing.trials import COMMANDS, World, faults


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "extract"])
def test_a_call_that_fails_is_three_lines_and_nothing_is_lost(
    command: str, kind: str, failing: tuple[Machine, World], every: bool
) -> None:
    wrong = faults(*failing, command, kind, every=every)
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
