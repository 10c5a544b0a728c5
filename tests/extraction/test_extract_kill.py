"""Kill -9 of real extractions, at every kind of moment, and what the next one finds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cacheclip.datasets.scenes import make_scenes
from cacheclip.errors import StoreError
from cacheclip.files.disk import read_json, sha256_file
from cacheclip.store.home import Home
from cacheclip.store.reader import IncompleteStoreError, Store
from cacheclip.store.regions import Regions
from tests.makers import cacheclip

pytestmark = pytest.mark.long
MOMENTS = [  # the first eight are of every kind; the others with `--all`
    ("syncing", 3),  # before any shard
    ("encoding", 1),
    ("publishing", 2),
    ("writing", 1),
    ("encoding", 9),
    ("publishing", 5),
    ("syncing", 7),
    ("writing", 3),
    ("encoding", 4),
    ("syncing", 1),
    ("writing", 2),
    ("syncing", 2),
    ("publishing", 1),
    ("syncing", 5),
    ("publishing", 4),
    ("publishing", 3),
    ("syncing", 4),
]
Painter = Callable[[Path, int], None]


class Victims:
    """Runs extractions that die, each forked from one process that has imported all."""

    def __init__(self, request_told: dict[str, Any]) -> None:
        self.request_told = request_told
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("victims.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, **told: Any) -> int:
        """Begin an extraction; its process id."""
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(told) + "\n")
        self.server.stdin.flush()
        return self._number()

    def end(self) -> int:
        """Wait for the end of what was started; its exit code."""
        return self._number()

    def run(self, home: Home, moment: str | None, nth: int) -> int:
        """An extraction that dies at a moment; its exit code."""
        told = {"home": str(home.root), "request": self.request_told, "moment": moment, "nth": nth}
        self.start(**told)
        return self.end()

    def _number(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


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
def victims(request_told: dict[str, Any]) -> Iterator[Victims]:
    made = Victims(request_told)
    yield made
    made.server.communicate()
    assert made.server.returncode == 0


def test_after_any_kill_the_next_run_ends_with_the_same_bytes(
    victims: Victims, tmp_path: Path, every: bool
) -> None:
    whole, home = Home(tmp_path / "whole"), Home(tmp_path / "home")
    assert victims.run(whole, None, 0) == 0
    done = 0
    for moment, nth in MOMENTS if every else MOMENTS[:8]:
        code = victims.run(home, moment, nth)
        assert code == (-signal.SIGXFSZ if moment == "writing" else -signal.SIGKILL)
        done = check_finished(home, at_least=done)
    for _ in range(3):
        kill_the_command(home, victims, at=done + 1)
        done = check_finished(home, at_least=done + 1)
    assert 8 <= done < 2 * 22  # kills came before, between and after finished shards
    with pytest.raises(StoreError):
        home.find("digits")

    assert victims.run(home, None, 0) == 0
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


def kill_the_command(home: Home, victims: Victims, at: int) -> None:
    """Run `cacheclip extract` as a user does, and kill it once `at` shards are done."""
    words = ["extract", "--home", str(home.root)]
    for name, value in victims.request_told.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    process = victims.start(command=words, said=os.devnull)
    wait_for(home, "stores/**/done/*.json", at)
    os.kill(process, signal.SIGKILL)
    assert victims.end() == -signal.SIGKILL


def wait_for(home: Home, pattern: str, count: int) -> None:
    """Wait for so many files of an extraction that goes on."""
    end = time.monotonic() + 300
    while len(list(home.root.glob(pattern))) < count:
        assert time.monotonic() < end, "nothing comes of it"
        time.sleep(0.005)


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
    tower: Path, tmp_path: Path, paint: Painter, victims: Victims
) -> None:
    """As Ctrl-C does, and without a word about shards on the command line."""
    home, pictures, said = Home(tmp_path / "home"), tmp_path / "pictures", tmp_path / "said"
    for k in range(600):
        paint(pictures / "ab"[k % 2] / f"{k}.png", k)
    words = [
        *("extract", "--home", str(home.root), "--dataset", str(pictures)),
        *("--model", f"local-dir:{tower}", "--device", "cpu"),
    ]
    process = victims.start(command=words, said=str(said))
    wait_for(home, "stores/folder/*/train/*/done/*.json", 3)
    os.kill(process, signal.SIGINT)
    assert victims.end() == 130
    assert "Traceback" not in said.read_text()
    kept = 0
    for plan in home.root.glob("stores/folder/*/*/image-*/plan.json"):
        done = [
            {file.name for file in plan.parent.parent.glob(f"{layer}-*/done/*.json")}
            for layer in ("image", "pre-projection")
        ]
        shards = read_json(plan)["shards"]
        kept += sum(s["rows"] for s in shards if f"{s['id']:05d}.json" in done[0] & done[1])
    assert kept
    assert f"interrupted; {kept:,} of 600 pictures are done and kept" in said.read_text()

    again = cacheclip(*words, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["reused"] == kept


def test_boxes_outlive_kills_as_pictures_do(
    tower: Path, tmp_path: Path, victims: Victims, every: bool
) -> None:
    make_scenes(tmp_path / "scenes", seed=1, train=1, test=0)
    request = {
        "dataset": str(tmp_path / "scenes"),
        "regions": str(tmp_path / "scenes" / "train.json"),
        "model": f"local-dir:{tower}",
        "device": "cpu",
        "rows_per_shard": 10,
        "batch_size": 5,
    }
    whole, home = Home(tmp_path / "whole"), Home(tmp_path / "home")

    def run(home: Home, moment: str | None, nth: int) -> int:
        victims.start(home=str(home.root), request=request, moment=moment, nth=nth)
        return victims.end()

    assert run(whole, None, 0) == 0
    for moment, nth in MOMENTS if every else [("writing", 1), ("encoding", 5)]:
        assert run(home, moment, nth) < 0 or every  # with `every`, the last kills find it whole
        for key in home.root.glob("stores/regions/*/test/*/key.json"):
            with suppress(IncompleteStoreError):
                Store.open(key.parent).load()
    assert run(home, None, 0) == 0
    assert contents(home) == contents(whole)
    assert Regions.find(home, "scenes-train").features().ok.all()
