"""Suite `startup`: what a command costs before and beside its work, in pairs of processes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cacheclip.bench.harness import Case, Setup, Timed

COMMAND = ("-m", "cacheclip")
BARE = ("-c", "pass")
IMPORTS = ("-c", "import torch, h5py")
FIT = ("fit", "--dataset", "clipart", "--shots", "16", "--json")


def cases(setup: Setup) -> Iterator[Case]:
    """Commands that only say something, then fit without its own work."""
    with tempfile.TemporaryDirectory() as folder:
        home = ("--home", folder)
        _run((*COMMAND, "extract", "--dataset", "clipart", *home))
        yield _case("cacheclip --help", (*COMMAND, "--help"), BARE)
        yield _case("cacheclip ls", (*COMMAND, "ls", *home), BARE)
        out = ("--out", str(Path(folder) / "bundle.safetensors"))
        yield _case("cacheclip fit, less its fitting", (*COMMAND, *FIT, *out, *home), IMPORTS)


def _case(name: str, ours: tuple[str, ...], baseline: tuple[str, ...]) -> Case:
    fits = "fit" in ours

    def command() -> float:
        """Seconds of its own work, which do not count."""
        printed = _run(ours)
        return float(json.loads(printed)["stack_seconds"]) if fits else 0.0

    def bare() -> None:
        _run(baseline)

    return Case(
        name=name,
        unit="process",
        ours=Timed(command, gives_apart=True),
        baselines={f"python {' '.join(baseline)}": Timed(bare)},
        says={
            "data": "clipart, nano",
            "batch_size": None,
            "epochs": None,
            "optimizer": None,
            "precision": None,
        },
        job="process",
    )


def _run(arguments: tuple[str, ...]) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
