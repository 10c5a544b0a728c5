"""Kill -9 of real extractions, at every kind of moment, and what the next one finds."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import StoreError
from cacheclip.files.disk import read_json, sha256_file
from cacheclip.store.home import Home
from cacheclip.store.reader import IncompleteStoreError, Store

MOMENTS = [
    ("syncing", 3),  # before any shard
    ("encoding", 1),
    ("publishing", 2),
    ("encoding", 4),
    ("writing", 1),
    ("publishing", 5),
    ("syncing", 1),
    ("writing", 2),
    ("syncing", 2),
    ("publishing", 1),
    ("syncing", 5),
    ("encoding", 9),
    ("publishing", 4),
    ("writing", 3),
    ("syncing", 7),
    ("publishing", 3),
    ("syncing", 4),
]
Painter = Callable[[Path, int], None]
Victim = Callable[[Home, str | None, int], int]


@pytest.fixture(scope="module")
def request_told(tower: Path) -> dict[str, Any]:
    """Give the extraction: 1,797 pictures in 22 shards of two layers."""
    return {
        "dataset": "digits",
        "model": f"local-dir:{tower}",
        "device": "cpu",
        "rows_per_shard": 84,
        "batch_size": 16,
    }


@pytest.fixture(scope="module")
def victim(request_told: dict[str, Any]) -> Iterator[Victim]:
    """Give what runs an extraction that dies at a moment, and its exit code."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("victims.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(home: Home, moment: str | None, nth: int) -> int:
        assert server.stdin is not None
        assert server.stdout is not None
        told = {"home": str(home.root), "request": request_told, "moment": moment, "nth": nth}
        server.stdin.write(json.dumps(told) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    yield run
    server.communicate()
    assert server.returncode == 0


def test_after_any_kill_the_next_run_ends_with_the_same_bytes(
    victim: Victim, request_told: dict[str, Any], tmp_path: Path
) -> None:
    whole, home = Home(tmp_path / "whole"), Home(tmp_path / "home")
    assert victim(whole, None, 0) == 0
    done = 0
    for moment, nth in MOMENTS:
        code = victim(home, moment, nth)
        assert code == (-signal.SIGXFSZ if moment == "writing" else -signal.SIGKILL)
        done = check_finished(home, at_least=done)
    for _ in range(3):
        kill_the_command(home, request_told, at=done + 1)
        done = check_finished(home, at_least=done + 1)
    assert 8 <= done < 2 * 22  # kills came before, between and after finished shards
    with pytest.raises(StoreError):
        home.find("digits")

    assert victim(home, None, 0) == 0
    assert contents(home) == contents(whole)
    assert not list(home.root.glob("stores/digits/t*/*/tmp/*"))
    assert home.find("digits").digest == whole.find("digits").digest


def check_finished(home: Home, at_least: int) -> int:
    """See that every store is whole as far as it says it is; give the count of shards."""
    records = sorted(home.root.glob("stores/**/done/*.json"))
    for file in records:
        record = read_json(file)
        shard = file.parent.parent / f"shard-{record['id']:05d}.h5"
        assert sha256_file(shard) == record["sha256"]
    for key in home.root.glob("stores/digits/t*/*/key.json"):
        with suppress(IncompleteStoreError):
            Store.open(key.parent).load()
    assert len(records) >= at_least
    return len(records)


def kill_the_command(home: Home, request_told: dict[str, Any], at: int) -> None:
    """Run `cacheclip extract` as a user does, and kill it once `at` shards are done."""
    options = [text for name, value in request_told.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-m", "cacheclip", "extract", "--home", str(home.root)]
        + [option.replace("_", "-") if option.startswith("--") else option for option in options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(home.root.glob("stores/**/done/*.json"))) < at:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def contents(home: Home) -> dict[str, Any]:
    """Every file of every store by its place; JSON as what it says, without `info`."""
    found: dict[str, Any] = {}
    for path in sorted(home.root.glob("stores/**/*.*")):
        if path.parent.name == "tmp":
            continue  # never read
        place = str(path.relative_to(home.root))
        if path.suffix == ".json":
            content = read_json(path)
            found[place] = {name: value for name, value in content.items() if name != "info"}
        else:
            found[place] = path.read_bytes()
    return found


def test_an_interrupt_keeps_what_is_encoded_and_says_how_much(
    tower: Path, tmp_path: Path, paint: Painter
) -> None:
    """As Ctrl-C does, and without a word about shards on the command line."""
    home, pictures = Home(tmp_path / "home"), tmp_path / "pictures"
    for k in range(600):
        paint(pictures / "ab"[k % 2] / f"{k}.png", k)
    command = [
        *(sys.executable, "-m", "cacheclip", "extract", "--home", str(home.root)),
        *("--dataset", str(pictures), "--model", f"local-dir:{tower}", "--device", "cpu"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(home.root.glob("stores/folder/*/train/*/done/*.json"))) < 3:
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    kept = 0
    for plan in home.root.glob("stores/folder/*/*/image-*/plan.json"):
        done = [
            {file.name for file in plan.parent.parent.glob(f"{layer}-*/done/*.json")}
            for layer in ("image", "pre-projection")
        ]
        shards = read_json(plan)["shards"]
        kept += sum(s["rows"] for s in shards if f"{s['id']:05d}.json" in done[0] & done[1])
    assert kept
    assert f"interrupted; {kept:,} of 600 pictures are done and kept" in said

    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["reused"] == kept
