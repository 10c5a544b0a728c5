"""One run of the bench: the suites that were asked for, and the record that they leave."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cacheclip.bench.harness import ROUNDS, Progress, Result, Setup, measure
from cacheclip.bench.machine import describe, measure_rates
from cacheclip.bench.shapes import SHAPES, SUITES
from cacheclip.errors import MachineError, StoreError
from cacheclip.files.disk import read_json


@dataclass
class Record:
    """What a run found, and on what.

    Attributes:
        machine: device, CPU, threads, versions, commit, date, command.
        ceilings: copy and matmul rates measured in this run.
        shape: the sizes timed.
        variants: V.
        results: in the order in which they were measured.
    """

    machine: dict[str, Any]
    ceilings: dict[str, float]
    shape: str
    variants: int
    results: list[Result] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The record as `--json` writes it."""
        return {
            "machine": self.machine,
            "ceilings": self.ceilings,
            "shape": self.shape,
            "variants": self.variants,
            "results": [result.as_json() for result in self.results],
        }


def is_record(path: Path) -> bool:
    """Whether a file is a record that `--json` wrote, so that another may take its place."""
    try:
        content = read_json(path)
    except (OSError, StoreError):
        return False
    return isinstance(content, dict) and content.keys() >= {"machine", "results"}


def find_device(name: str | None) -> torch.device:
    """The device of that name; the GPU where there is one if it is None.

    Raises:
        MachineError: there is no such device.
    """
    there = torch.cuda.is_available()
    device = torch.device(name or ("cuda" if there else "cpu"))
    if device.type == "cuda" and not there:
        raise MachineError("no GPU seen", where=f"--device {name}", fix="use --device cpu")
    return device


def run(
    suites: Sequence[str],
    shape: str,
    variants: int,
    device: torch.device,
    command: str,
    progress: Progress,
) -> Record:
    """Measure the ceilings, then the suites' cases one after the other.

    Args:
        suites: names of the registry `shapes.SUITES`.
        shape: a name of `shapes.SHAPES`.
        variants: V.
        device: where ours and the baselines run.
        command: what was typed.
        progress: called with the case at hand, calls done, and calls in all.

    Raises:
        FitError: ours and a baseline disagree; nothing is reported then.
    """
    progress("ceilings", 0, 1)
    rates = measure_rates(device)
    record = Record(describe(device, command), rates.as_json(), shape, variants)
    setup = Setup(SHAPES[shape], variants, device, rates, ROUNDS)
    for suite in suites:
        cases = SUITES.file(suite, where="SUITE").cases(setup)
        record.results += [measure(suite, case, setup, progress) for case in cases]
    return record
