"""A small home of imported arrays, what commands make of it, and how its fixes are run."""

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cacheclip.errors import CacheclipError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.store.about import about
from cacheclip.store.home import Home
from cacheclip.store.overview import overview

ROWS, DIM, NAMES = 24, 8, ("ant", "bee", "cow")
# Words of a line that tells of damage.
SAID = re.compile("left out|does not say|by hand|not as it was written|made anew|fix: ")
COMMANDS = re.compile("(?:rm |mv |cacheclip ).*")


@dataclass(frozen=True)
class Reading:
    """What commands answer, and the lines that they say of damage."""

    answers: Any
    said: tuple[str, ...] = ()


@dataclass
class World:
    """A home of two imports of which `toys` is the last, and its bytes.

    Attributes:
        root: a folder of its own.
        kept: path -> bytes of the files of the home as it was.
    """

    root: Path
    kept: dict[Path, bytes] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(self.root / "home", f" --home {shlex.quote(str(self.root / 'home'))}")

    @classmethod
    def make(cls, root: Path) -> "World":
        world = cls(root)
        for seed, name in enumerate(("others", "toys")):
            write_npz(root / f"{name}.npz", seed)
            import_npz(root / f"{name}.npz", world.home)
        return world

    def files(self, pattern: str) -> list[Path]:
        found = sorted((self.root / "home").glob(pattern))
        assert found, pattern
        return found

    def keep(self) -> None:
        """From now on this is how the home was."""
        files = [file for file in self.home.root.rglob("*") if file.is_file()]
        self.kept = {file: file.read_bytes() for file in files}

    def restore(self) -> None:
        """Give the home its files back, and no others."""
        for file in self.home.root.rglob("*"):
            if file.is_file() and file not in self.kept:
                file.unlink()
        for file, data in self.kept.items():
            if not file.exists() or file.read_bytes() != data:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)

    def run(self, line: str) -> None:
        """Do what a fix says: `rm FILE && cacheclip COMMAND`, whatever is said before it."""
        commands = COMMANDS.search(line)
        assert commands, line
        for command in commands[0].split(" && "):
            words = shlex.split(command)
            if words[0] == "rm":
                self._remove(words[1:])
            else:
                run_command(words[1:])

    def _remove(self, words: list[str]) -> None:
        for word in words:
            if word != "-r":
                path = Path(word)
                assert path.is_relative_to(self.root)
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_npz(file: Path, seed: int) -> None:
    """Arrays of 24 rows of 8 numbers in 3 classes, a third of them for test."""
    random = np.random.default_rng(seed)
    labels = np.arange(ROWS) % len(NAMES)
    centres = random.normal(size=(len(NAMES), DIM))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file,
        features=(centres[labels] + random.normal(size=(ROWS, DIM))).astype(np.float32),
        labels=labels,
        split=np.where(np.arange(ROWS) // len(NAMES) % 3 == 0, "test", "train"),
        text_features=centres.astype(np.float32),
        logit_scale=np.array(20.0),
        classnames=np.array(NAMES),
        sample_ids=np.array([f"{file.stem}/{k:02}.png" for k in range(ROWS)]),
    )


def run_command(words: list[str]) -> str:
    """Run a command in this process; what it says."""
    from cacheclip.cli.main import cacheclip

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        cacheclip.main(words, standalone_mode=False)
    return said.getvalue()


def look(world: World) -> Reading:
    """What `ls`, `info` and `fit` read of a home, without the training."""
    home = world.home
    listed = overview(home)
    said = listed.problems
    lines = [line.as_cells() for line in listed.lines]
    features = home.find()
    stores = []
    for place, store in sorted(features.images.items()):
        loaded = store.load()
        arrays = [loaded.features.tobytes(), loaded.norm.tobytes(), loaded.ok.tobytes()]
        stores += [place, store.ids(), store.stamps(), store.failures(), arrays]
    text = features.text
    told = [about(features), features.digest, features.labels.digest, lines]
    spoken = [] if text is None else [text.load().tobytes(), text.classnames, text.prompts]
    said += features.notices
    return Reading([told, stores, spoken], tuple(line for line in said if SAID.search(line)))


def look_anew(world: World) -> Reading:
    """The same once the command that makes the home has gone over it again."""
    said = run_command(["import", f"{world.root}/toys.npz", "--home", str(world.home.root)])
    reading = look(world)
    lines = tuple(line for line in said.splitlines() if SAID.search(line))
    return Reading(reading.answers, (*reading.said, *lines))


@contextlib.contextmanager
def found() -> Iterator[list[CacheclipError]]:
    """Catch an error of ours; anything else is a traceback, and so a fault."""
    errors: list[CacheclipError] = []
    try:
        yield errors
    except CacheclipError as error:
        errors.append(error)
