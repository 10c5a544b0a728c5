"""A comparison that is stopped keeps every row that was finished, and goes on where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cacheclip.results import LOG, documented

SEEDS, AT_ONCE = 8, 2
COMMAND = (
    *("compare", "--methods", "clip-adapter", "--shots", "4", "--seeds", str(SEEDS)),
    *("--select", "fixed", "--max-memory", "50KB"),
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SLOW = ("--set", "epochs=120")


def logged(home: Path, method: str = "clip-adapter") -> list[dict[str, Any]]:
    path = home / LOG
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # one may be in writing
    found = [json.loads(line) for line in whole.splitlines()]
    fields = [{name: row[name] for name in row if name in documented()} for row in found]
    return [row for row in fields if row["method"] == method]


def written(home: Path) -> int:
    """How many whole rows of clip-adapter there are, told without parsing them."""
    path = home / LOG
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return whole.count('"method": "clip-adapter"')


@pytest.fixture
def home(world: Any, tmp_path: Path) -> Path:
    copied = tmp_path / "home"
    shutil.copytree(world.home, copied)
    (copied / LOG).unlink(missing_ok=True)
    shutil.rmtree(copied / "predictions", ignore_errors=True)
    return copied


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_comparison_keeps_its_rows_and_makes_only_the_rest(
    how: signal.Signals, home: Path, cli: Callable[[Sequence[str]], Any]
) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "cacheclip", *COMMAND, *SLOW, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup's goes on to us
    )
    while running.poll() is None and written(home) < 2 * AT_ONCE:
        time.sleep(0.02)
    running.send_signal(how)
    _, said = running.communicate()
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), said
    kept = logged(home)
    assert 2 * AT_ONCE <= len(kept) < SEEDS
    assert {row["seed"] for row in kept} == set(range(1, len(kept) + 1))  # no gap: one part is lost
    predicted = {file.stem for file in (home / "predictions").iterdir()}
    rows = [*kept, *logged(home, "zero-shot"), *logged(home, "nearest-mean")]
    assert {row["row_id"] for row in rows} <= predicted
    assert len(predicted) <= len(rows) + AT_ONCE  # done and not in the log: one part

    answer = cli([*COMMAND, *SLOW, "--json", "--home", str(home)])
    assert answer.code == 0, answer.err
    assert f"{len(kept)} of {SEEDS} rows re-used" in answer.err
    assert len(logged(home)) == SEEDS  # nothing twice
    assert logged(home)[: len(kept)] == kept
    assert json.loads(answer.out) == logged(home)


def test_rows_are_re_used_unless_asked_otherwise_and_failed_ones_never(
    home: Path, cli: Callable[[Sequence[str]], Any]
) -> None:
    base = ["compare", "--methods", "clip-adapter", "--shots", "2", "--seeds", "2", "--json"]
    base += ["--select", "fixed", "--home", str(home), "--set", "epochs=4"]
    first = cli([*base, "--set", "lr=0.01,1e38"])
    assert [row["error"] is None for row in json.loads(first.out)] == [True, False] * 2
    more = cli([*base, "--set", "lr=0.01,0.02,1e38"])
    assert "2 of 6 rows re-used" in more.err
    assert [row["hparams"]["lr"] for row in json.loads(more.out)] == [0.01, 0.02, 1e38] * 2
    assert [row["error"] is None for row in json.loads(more.out)] == [True, True, False] * 2
    assert len(logged(home)) == 4 + 4
    again = cli([*base, "--set", "lr=0.01", "--on-existing", "redo"])
    assert "re-used" not in again.err
    assert len(logged(home)) == 4 + 4 + 2


def test_a_torn_or_foreign_line_of_the_log_is_no_row(
    home: Path, cli: Callable[[Sequence[str]], Any]
) -> None:
    base = ["compare", "--methods", "nearest-mean", "--shots", "2", "--seeds", "2", "--json"]
    base += ["--home", str(home)]
    cli(base)
    whole, other = (home / LOG).read_text().splitlines()
    (home / LOG).write_text(f"{whole[:200]}\n{other.replace('n_test', 'tests')}\n")
    assert "re-used" not in cli(base).err
    assert "all 2 rows are there, nothing to run" in cli(base).err


def test_the_memory_plan_is_said_when_asked_for(cli: Callable[[Sequence[str]], Any]) -> None:
    answer = cli([*COMMAND[:-1], "20KB", "-v", "--on-existing", "redo", "--set", "epochs=1"])
    assert answer.code == 0, answer.err
    assert f"--shots 4: {SEEDS} runs, 1 at once on {DEVICE}, --max-memory 20 kB" in answer.err
    assert cli([*COMMAND[:-1], "much"]).code == 2
