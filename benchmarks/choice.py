"""Does the choice of settings pay, and are the probabilities true? The tables of docs/default.md.

    python benchmarks/choice.py [--tuning] [--seeds N]

Runs every method under `--select fixed` and under the default policy, at 1 to 16 shots: on the
pictures that ship (clipart, digits, through nano) and on the synthetic CLIP-like sets that were
held out while the rule was made; `--tuning` takes the others. About 15 minutes on two quiet cores.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from cacheclip.answers import predictions
from cacheclip.bench.clip_like import HELD_OUT, TUNING, clip_like
from cacheclip.exchange.import_npz import import_npz
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run as extract
from cacheclip.methods import base as methods
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request

METHODS = ("nearest-mean", "linear-probe", "tip-adapter", "tip-adapter-f", "clip-adapter")
SHOTS = (1, 2, 4, 8, 16)
POLICIES = ("fixed", "default")  # the default of sets of one's own is full-val, else fewshot-val
WORSE, BELOW = 0.2, 0.3  # points: what the default may lose to constants, and to zero-shot
ECE = 0.1

Cells = dict[tuple[str, str, str, int], list[Row]]  # policy, set, method, shots


def main() -> None:
    """Run, then print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    chosen = tuple(asked.methods.split(","))
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        cells: Cells = {}
        for name in sets(home, TUNING if asked.tuning else HELD_OUT):
            for policy in POLICIES:
                cells |= _run(home, name, chosen, policy, asked.seeds)
            print(f"{name} done", file=sys.stderr)
        _print_gains(cells, chosen)
        _print_losses(cells)
        _print_calibration(cells, chosen)
        for name in dict.fromkeys(name for _, name, *_ in cells):
            _print_reliability(home, cells, chosen, name)


def sets(home: Home, synthetic: tuple[int, ...]) -> Iterator[str]:
    """The names of the sets, each once its features are there."""
    for name in ("clipart", "digits"):
        extract(ExtractRequest(dataset=name), home)
        yield name
    for number in synthetic:
        file = home.root / f"synthetic-{number}.npz"
        clip_like(number).save(file)
        import_npz(file, home)
        yield f"npz/synthetic-{number}"


def _run(home: Home, name: str, chosen: tuple[str, ...], policy: str, seeds: int) -> Cells:
    request = Request(
        chosen, SHOTS, tuple(range(1, seeds + 1)), select=None if policy == "default" else policy
    )
    comparison = Comparison(request, home.find(name), home)
    cells: Cells = defaultdict(list)
    for _, row in comparison.run():
        if row.error:
            sys.exit(row.error)
        cells[policy, name, row.method, row.shots if isinstance(row.shots, int) else 0].append(row)
    return cells


def _gains(cells: Cells, policy: str, method: str, shots: int) -> list[float]:
    """Each set's mean gain over the constants, in points."""
    return [
        100 * (_top1(rows) - _top1(cells["fixed", name, method, shots]))
        for (own, name, m, k), rows in cells.items()
        if (own, m, k) == (policy, method, shots)
    ]


def _print_gains(cells: Cells, chosen: tuple[str, ...]) -> None:
    print("\nPoints over the method's own constants, mean over the sets (worst set):\n")
    print("| policy | method |", " | ".join(f"{k} shots" for k in SHOTS), "| mean | holds |")
    print("|---|---|", "---:|" * (len(SHOTS) + 1), "---|", sep="")
    for policy in POLICIES[1:]:
        for method in (name for name in chosen if _has_grid(name)):
            gains = [_gains(cells, policy, method, k) for k in SHOTS]
            shown = [f"{mean(own):+.2f} ({min(own):+.1f})" for own in gains]
            average = mean(mean(own) for own in gains)
            holds = "yes" if average >= -WORSE else "NO"
            print(f"| {policy} | {method} |", " | ".join(shown), f"| {average:+.2f} | {holds} |")


def _has_grid(name: str) -> bool:
    return any(own.grid for own in methods.get(name).table.values())


def _print_losses(cells: Cells) -> None:
    print(f"\nCells more than {BELOW} points below zero-shot, beyond two standard errors, of the")
    print("methods that read the text (the others cannot know it; `fit` and `compare` warn):\n")
    found = 0
    for (policy, name, method, shots), rows in cells.items():
        if not methods.get(method)().reads.text:
            continue
        below = [100 * ((r.zero_shot_test or 0.0) - (r.top1_test or 0.0)) for r in rows]
        certain = mean(below) - 2 * stdev(below) / len(below) ** 0.5
        if certain > BELOW:
            found += 1
            print(f"- {policy}, {name}, {method}, {shots} shots: {mean(below):.1f} below")
    print("" if found else "none")


def _print_calibration(cells: Cells, chosen: tuple[str, ...]) -> None:
    print("\nCalibration error on test pictures, mean over sets (worst cell), 4 shots and more;")
    print(f"the goal is {ECE}, or that the rows know their mean confidence no better than that:\n")
    print("| policy | method | as the logits come | calibrated | cells above | holds |")
    print("|---|---|---:|---:|---:|---|")
    for policy in POLICIES:
        for method in chosen:
            own = _calibrated(cells, policy, method)
            raw = [mean(r.ece_test_raw or 0.0 for r in rows) for rows in own]
            warm = [mean(r.ece_test or 0.0 for r in rows) for rows in own]
            above = [rows for rows, error in zip(own, warm, strict=True) if error > ECE]
            silent = [rows for rows in above if mean(map(_unknown, rows)) <= ECE]
            print(
                f"| {policy} | {method} | {mean(raw):.3f} ({max(raw):.3f}) | "
                f"{mean(warm):.3f} ({max(warm):.3f}) | {len(above)} of {len(own)} | "
                f"{'NO' if silent else 'yes'} |"
            )


def _unknown(row: Row) -> float:
    """How far a row says that its mean confidence may be off; 1 where it has no temperature."""
    return 1.0 if row.calibrated_within is None else row.calibrated_within


def _calibrated(cells: Cells, policy: str, method: str, name: str | None = None) -> list[list[Row]]:
    """The cells with enough shots, of one set or all."""
    return [
        rows
        for (p, own, m, shots), rows in cells.items()
        if (p, m) == (policy, method) and shots >= 4 and name in (None, own)
    ]


def _print_reliability(home: Home, cells: Cells, chosen: tuple[str, ...], name: str) -> None:
    """Of the answers given with a confidence, how many % are right (how many there are)."""
    print(f"\n{name}: % right by confidence, default policy, 4 shots and more, all draws\n")
    print("| confidence |", " | ".join(chosen), "|")
    print("|---|", "---:|" * len(chosen), sep="")
    columns = []
    for method in chosen:
        told = [
            predictions(home, row.row_id)
            for rows in _calibrated(cells, "default", method, name)
            for row in rows
        ]
        top_p = np.concatenate([t.top_p for t in told]).astype(float)
        right = np.concatenate([t.predicted == t.label for t in told])
        tenth = np.minimum((10 * top_p).astype(int), 9)
        columns.append([right[tenth == k] for k in range(10)])
    for k in range(10):
        shown = [f"{100 * x[k].mean():.0f} ({len(x[k])})" if len(x[k]) else "-" for x in columns]
        print(f"| {10 * k}-{10 * k + 10} % |", " | ".join(shown), "|")


def _top1(rows: list[Row]) -> float:
    return mean(row.top1_test or 0.0 for row in rows)


if __name__ == "__main__":
    main()
