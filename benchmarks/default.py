"""Is what `cacheclip fit` does unasked any good? The table of README and docs/default.md.

    python benchmarks/default.py [--tuning] [--seeds N] [--methods A,B]

The default method under the default policy against zero-shot and against every recipe as it was
released (`--select fixed`): at 1 to 16 shots on the pictures that ship (clipart, digits, through
nano) and on the synthetic CLIP-like sets that were held out while the default was made; `--tuning`
takes the others. About half an hour on two quiet cores.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from choice import BELOW, SHOTS, sets

from cacheclip.bench.clip_like import HELD_OUT, TUNING
from cacheclip.methods import DEFAULT
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request

RECIPES = (
    *("tip-adapter", "tip-adapter-f", "clip-adapter", "task-res", "clap", "zs-lp", "lp-pp"),
    *("linear-adapter", "gda", "proker", "ss-text", "ape", "gp"),
)
UNASKED = (("default policy", None), ("without val", "support-loo"))

Cells = dict[tuple[str, str, int], list[Row]]  # line, set, shots


def main() -> None:
    """Run, then print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--methods", default=",".join(RECIPES))
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    cells: Cells = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for name in sets(home, TUNING if asked.tuning else HELD_OUT):
            for policy, select in UNASKED:
                _run(cells, home, name, (DEFAULT,), select, asked.seeds, f"{DEFAULT}, {policy}")
            recipes = tuple(filter(None, asked.methods.split(",")))
            if recipes:
                _run(cells, home, name, recipes, "fixed", asked.seeds)
            print(f"{name} done", file=sys.stderr)
    _print_means(cells)
    _print_below(cells)


def _run(
    cells: Cells,
    home: Home,
    name: str,
    chosen: tuple[str, ...],
    select: str | None,
    seeds: int,
    line: str = "",
) -> None:
    request = Request(chosen, SHOTS, tuple(range(1, seeds + 1)), select=select)
    for _, row in Comparison(request, home.find(name), home).run():
        if row.error:
            sys.exit(row.error)
        cells[line or row.method, name, int(row.shots)].append(row)


def _print_means(cells: Cells) -> None:
    names = list(dict.fromkeys(name for _, name, _ in cells))
    lines = list(dict.fromkeys(line for line, *_ in cells))
    zero_shot = mean(_zero_shot(cells[lines[0], name, SHOTS[0]]) for name in names)
    print(f"\nTest accuracy, mean over {', '.join(names)}; zero-shot {zero_shot:.1f}\n")
    print("| |", " | ".join(f"{k} shots" for k in SHOTS), "| mean |")
    print("|---|", "---:|" * (len(SHOTS) + 1), sep="")
    for line in lines:
        each = [mean(_top1(cells[line, name, k]) for name in names) for k in SHOTS]
        print(f"| {line} |", " | ".join(f"{x:.1f}" for x in each), f"| {mean(each):.1f} |")


def _print_below(cells: Cells) -> None:
    print(f"\nCells more than {BELOW} points below zero-shot beyond two standard errors (worst):\n")
    for line in dict.fromkeys(line for line, *_ in cells):
        certain = {}
        for (own, name, shots), rows in cells.items():
            if own == line:
                below = [100 * ((row.zero_shot_test or 0) - (row.top1_test or 0)) for row in rows]
                error = stdev(below) / len(below) ** 0.5 if len(below) > 1 else 0.0
                certain[name, shots] = mean(below) - 2 * error
        found = {cell: x for cell, x in certain.items() if x > BELOW}
        worst = max(found, key=lambda cell: found[cell], default=None)
        said = f": {found[worst]:.1f} on {worst[0]} at {worst[1]} shots" if worst else ""
        print(f"- {line}: {len(found)} of {len(certain)}{said}")


def _top1(rows: list[Row]) -> float:
    return 100 * mean(row.top1_test or 0.0 for row in rows)


def _zero_shot(rows: list[Row]) -> float:
    return 100 * mean(row.zero_shot_test or 0.0 for row in rows)


if __name__ == "__main__":
    main()
