"""Commands whose calls fail, one a trial, and what they must leave behind.

    python -m tests.failing.trials --all

fails each call with every error. Without --all errors take turns, and of the calls that are come to
by the same lines, as those of a loop are, the first fails. Commands may be named.
"""

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cacheclip.files import disk
from tests.failing.machine import KINDS, Machine, Sums

ERRNOS = (
    *(errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE),
    *(errno.ESTALE, errno.ENOLCK, errno.ENOSYS, errno.EINTR),
)
CHANGING = {
    *("time", "created", "seconds", "stack_seconds", "digest", "asked", "notices"),
    *("encoded", "written", "reused", "stack_size"),
}
LOGS = ("results.jsonl", "extractions.jsonl")
COMMANDS = ("fit", "compare", "predict", "import", "extract")
FIT = ("fit", "--method", "nearest-mean", "--shots", "1", "--select", "fixed", "--json")
COMPARE = ("compare", "--methods", "nearest-mean,zero-shot", "--shots", "1", "--json")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str
    bug: str = ""

    def is_three_lines(self) -> bool:
        """Whether an error says what, where and how to go on, as all of ours do."""
        begin = [line.split(":")[0] for line in self.err.splitlines()]
        return any(begin[k : k + 3] == ["error", "where", "fix"] for k in range(len(begin)))


def run(arguments: tuple[str, ...]) -> Answer:
    """A command in this process, through the real `main`."""
    from cacheclip.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["cacheclip", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:  # noqa: BLE001  (what it finds is told)
            return Answer(1, out.getvalue(), err.getvalue(), traceback.format_exc())
    return Answer(code, out.getvalue(), err.getvalue())


def lasting(value: Any) -> Any:
    """What JSON holds without what is another at every run."""
    if isinstance(value, dict):
        return {name: lasting(part) for name, part in value.items() if name not in CHANGING}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def content(home: Path) -> dict[str, Any]:
    """What a home holds that counts: no locks, no notes, of the logs the last line of each row."""
    found: dict[str, Any] = {}
    for file in sorted(home.rglob("*")):
        name = file.relative_to(home).as_posix()
        if file.is_dir() or re.search(r"(^memo/.*|\block)$", name):
            continue
        if name in LOGS:
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            found[name] = {line.get("row_id"): lasting(line) for line in lines}
        elif file.suffix == ".json":
            found[name] = lasting(json.loads(file.read_text()))
        elif file.suffix == ".npz":
            with np.load(file) as arrays:
                found[name] = {key: arrays[key].tolist() for key in sorted(arrays.files)}
        else:
            found[name] = file.read_bytes()
    return found


class World:
    """Pictures, arrays, and the home of a command before it runs."""

    def __init__(self, root: Path) -> None:
        self.home, self._before, self._own = root / "home", root / "before", root / "own"
        self.pictures, self.arrays = root / "pictures", root / "toys.npz"
        random = np.random.default_rng(0)
        for k in range(8):  # so many that two seeds draw other pictures
            path = self.pictures / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = random.integers(0, 256, (6, 6 + k, 3), np.uint8)
            Image.fromarray(levels).save(path)
        split = np.array(["train", "test"])[np.arange(12) // 2 % 2]
        np.savez(
            self.arrays,
            features=random.normal(size=(12, 4)).astype(np.float32),
            labels=np.arange(12) % 2,
            split=split,
            text_features=random.normal(size=(2, 4)).astype(np.float32),
            logit_scale=np.array(20.0),
        )
        home = ("--home", str(self.home))
        bundle = str(root / "b.safetensors")
        picture = str(self.pictures / "a" / "0.png")
        self.commands: dict[str, tuple[str, ...]] = {
            "extract": ("extract", "--dataset", str(self.pictures), "--json", *home),
            "import": ("import", str(self.arrays), "--json", *home),
            "fit": (*FIT, "--out", bundle, *home),
            "compare": (*COMPARE, "--seeds", "2", *home),
            "predict": ("predict", bundle, picture, "--json"),
        }
        self._setup = {
            "fit": [self.commands["extract"]],
            "compare": [self.commands["extract"], (*COMPARE, "--seeds", "1", *home)],
            "predict": [self.commands["extract"], self.commands["fit"]],
        }
        self._bundle = Path(bundle)
        self._is_of = ""
        self._prepared: dict[str, tuple[int, int]] = {}
        self.references: dict[str, tuple[dict[str, Any], Any]] = {}  # what an unharmed run leaves
        self.first: dict[str, dict[str, set[int]]] = {}  # its calls that other lines come to
        self.went_on: set[str] = set()  # states from which the next run was right

    def prepare(self, command: str) -> None:
        """Make the home that a command finds."""
        if self._is_of == command and self.is_untouched():
            return
        if self._is_of != command:
            shutil.rmtree(self._before, ignore_errors=True)
            shutil.rmtree(self.home, ignore_errors=True)
            self._bundle.unlink(missing_ok=True)
            for words in self._setup.get(command, []):
                answer = run(words)
                assert answer.code == 0, answer
            if self.home.exists():
                shutil.copytree(self.home, self._before)
            self._is_of = command
        shutil.rmtree(self.home, ignore_errors=True)
        if self._before.exists():
            shutil.copytree(self._before, self.home)
        shutil.rmtree(self._own, ignore_errors=True)
        if command == "fit":
            self._bundle.unlink(missing_ok=True)
        self._prepared = self._stamps()

    def is_untouched(self) -> bool:
        """Whether nothing was written since the home was prepared."""
        return self._stamps() == self._prepared

    def _stamps(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file of the home, and of the bundle beside it."""
        files = [self._bundle, *self.home.rglob("*")]
        infos = {str(file): file.stat() for file in files if file.is_file()}
        return {name: (info.st_size, info.st_mtime_ns) for name, info in infos.items()}

    def holds(self) -> dict[str, Any]:
        """What the home holds, and the bundle beside it."""
        bundle = {"bundle": self._bundle.read_bytes()} if self._bundle.exists() else {}
        return content(self.home) | bundle

    def torn(self) -> list[str]:
        """Files that were begun and are not finished."""
        folders = (self.home, self._bundle.parent)
        return [str(file) for folder in folders for file in folder.rglob(".*.tmp")]

    def logged(self) -> dict[str, list[str]]:
        """The whole lines of the logs."""
        logs = {name: self.home / name for name in LOGS}
        return {name: log.read_text().splitlines() for name, log in logs.items() if log.exists()}


def fail_once(
    machine: Machine, world: World, command: str, kind: str, nth: int, number: int
) -> str:
    """Run a command whose n-th call fails; "done" where it has fewer, else what went wrong."""
    words = world.commands[command]
    world.prepare(command)
    before = world.logged()
    machine.arm(kind, nth, number)
    answer = run(words)
    machine.disarm()
    if not machine.struck:
        return "done"
    said = f"{kind} {nth} {errno.errorcode[number]} of {machine.struck}: "
    if answer.bug or answer.code not in (0, 3, 4, 5):
        return f"{said}exit {answer.code} {answer.err} {answer.bug}"
    damaged = re.search(r" failed \(| rows failed:|could not be read", answer.err) is not None
    if answer.code and not damaged and not answer.is_three_lines():
        return f"{said}not three lines: {answer.err}"
    if torn := world.torn():
        return f"{said}left {torn}"
    for name, lines in world.logged().items():
        if lines[: len(before.get(name, []))] != before.get(name, []):
            return f"{said}lines of {name} are lost"
        if not all(json.loads(line) for line in lines):
            return f"{said}torn lines in {name}"
    wanted, told = world.references[command]
    if not answer.code and not damaged and lasting(json.loads(answer.out)) != told:
        return f"{said}exit 0 and another answer: {answer.out}"
    state = disk.digest([command, damaged, repr(world.holds())])
    if (world.is_untouched() and not damaged) or state in world.went_on:
        return ""
    again = run((*words, "--retry-failed") if damaged and command == "extract" else words)
    if again.code:
        return f"{said}the next run fails: {again.err} {again.bug}; it was {answer.err}"
    if lasting(json.loads(again.out)) != told:
        return f"{said}the next answer differs: {again.out}"
    now = world.holds()
    differing = [name for name in wanted if now.get(name) != wanted[name]]
    if differing:
        return f"{said}another content of {differing} at last"
    world.went_on.add(state)
    return ""


def faults(machine: Machine, world: World, command: str, kind: str, *, every: bool) -> list[str]:
    """What goes wrong where each call of a kind fails, in a run of its own."""
    if command not in world.references:
        world.prepare(command)
        machine.note()
        answer = run(world.commands[command])
        machine.disarm()
        assert answer.code == 0, answer
        world.first[command] = {
            name: {ways.index(way) + 1 for way in ways} for name, ways in machine.ways.items()
        }
        world.references[command] = world.holds(), lasting(json.loads(answer.out))
    turn = KINDS.index(kind) + len(command)
    wrong = []
    calls = range(1, 10_000) if every else sorted(world.first[command].get(kind, ()))
    for nth in calls:
        turns = range(len(ERRNOS)) if every else [(nth + turn) % len(ERRNOS)]
        found = [fail_once(machine, world, command, kind, nth, ERRNOS[k]) for k in turns]
        if found[0] == "done":
            break
        wrong += [line for line in found if line]
    return wrong


@contextlib.contextmanager
def failing_world() -> Iterator[tuple[Machine, World]]:
    """A machine that can fail and a world on it, with the small encoder."""
    memory = Path("/dev/shm")  # thousands of small files, and no disk has to be waited for
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as root,
        pytest.MonkeyPatch.context() as patch,
    ):
        for module in ("cacheclip.extraction.run", "cacheclip.inference.pictures"):
            patch.setattr(importlib.import_module(module), "load", lambda *_, **__: Sums())
        patch.setattr(sys, "argv", [])
        patch.setenv("XDG_DATA_HOME", f"{root}/own")
        machine = Machine(Path(root))
        machine.patch(patch)
        yield machine, World(Path(root))
    torch.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="fail each call with every error")
    parser.add_argument("command", nargs="*", default=COMMANDS)
    asked = parser.parse_args()
    wrong = []
    with failing_world() as (machine, world):
        for command in asked.command:
            for kind in KINDS:
                wrong += [
                    f"{command}: {line}"
                    for line in faults(machine, world, command, kind, every=asked.all)
                ]
    print(*wrong, sep="\n")  # noqa: T201
    sys.exit(len(wrong) > 0)


if __name__ == "__main__":
    main()
