"""Every call that can fail does, once: three lines, nothing lost, and the next run is right.

The errors take turns; `python -m tests.failing.trials --all` fails each call with each of them.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.failing.machine import KINDS, Machine
from tests.failing.trials import COMMANDS, World, failing_world, faults

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = "extract"  # as long as all others together, so it goes on beside them


@pytest.fixture(scope="module")
def beside() -> Iterator["subprocess.Popen[str]"]:
    """The trials of one command, in a process of their own."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.failing.trials", ELSEWHERE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="module")
def failing(beside: object) -> Iterator[tuple[Machine, World]]:
    with failing_world() as both:
        yield both


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != ELSEWHERE])
def test_a_call_that_fails_is_three_lines_and_nothing_is_lost(
    command: str, kind: str, failing: tuple[Machine, World]
) -> None:
    wrong = faults(*failing, command, kind, every=False)
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])


def test_no_call_of_an_extraction_that_fails_loses_anything(
    beside: "subprocess.Popen[str]",
) -> None:
    wrong, _ = beside.communicate()
    assert (beside.returncode, wrong.strip()) == (0, "")
