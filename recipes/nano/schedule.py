"""Learning rate over the steps, and the log of a training."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from torch.optim import Optimizer

EVERY = 20


def set_rate(optimizer: Optimizer, step: int, steps: int, warm_up: int) -> None:
    """Sets each group's rate: a linear rise, then half a cosine down to 0.

    Args:
        optimizer: Its groups' first rates are taken as the highest ones.
        step: From 0.
        steps: Number of all steps.
        warm_up: Number of steps of the rise.
    """
    rise = min(1.0, (step + 1) / warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * max(0, step - warm_up) / max(1, steps - warm_up)))
    for group in optimizer.param_groups:
        group.setdefault("highest_lr", group["lr"])
        group["lr"] = group["highest_lr"] * rise * fall


class Log:
    """Keeps the mean of each value over every 20 steps, and writes them as one JSON file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Starts the clock."""
        self.path, self.start = path, time.monotonic()
        self.curves: dict[str, list[float]] = {}
        self.sums: dict[str, float] = {}

    def add(self, step: int, **values: float) -> None:
        """Takes the values of one step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if (step + 1) % EVERY == 0:
            for name, total in self.sums.items():
                self.curves.setdefault(name, []).append(round(total / EVERY, 4))
            last = {name: curve[-1] for name, curve in self.curves.items()}
            print(f"step {step + 1}, {time.monotonic() - self.start:.0f} s: {last}", flush=True)
            self.sums = {}

    def close(self, **facts: object) -> None:
        """Writes the file."""
        seconds = round(time.monotonic() - self.start)
        record = {"seconds": seconds, "every_steps": EVERY, **facts, "curves": self.curves}
        self.path.write_text(json.dumps(record) + "\n")
        print({"seconds": seconds, **facts}, flush=True)
