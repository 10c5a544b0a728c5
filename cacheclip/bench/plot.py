"""The ratios of a record as bars."""

from pathlib import Path
from typing import Any

from cacheclip.bench.harness import Result
from cacheclip.bench.record import Record
from cacheclip.errors import InputError, MachineError

FORMATS = (".png", ".svg", ".pdf")


def require(path: Path) -> Any:
    """Give matplotlib's Figure class, for a plot that `path` can be.

    Raises:
        InputError: the file's name is not one of a picture.
        MachineError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"no plot can be a {path.suffix or 'file without a suffix'}",
            where=f"--plot {path}",
            fix=f"end the name in {' '.join(FORMATS)}",
        )
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MachineError(
            "a plot needs matplotlib", where="--plot", fix="pip install 'cacheclip[plot]'"
        ) from None
    return Figure


def is_plot(path: Path) -> bool:
    """Whether matplotlib wrote a file, so that another plot may take its place."""
    return b"atplotlib" in path.read_bytes()


def draw(record: Record, path: Path) -> None:
    """Write one bar a case and baseline, how many times faster ours is, to a PNG, SVG or PDF."""
    bars = [bar for result in record.results for bar in _bars(result)]
    figure = require(path)(figsize=(9, 1.5 + 0.3 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names, ratios = zip(*bars, strict=True)
    drawn = axes.barh(
        names, [ratio - 1 for ratio in ratios], left=1
    )  # from 1, where both are equal
    axes.bar_label(drawn, [f"{ratio:.2g}" for ratio in ratios], padding=3)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("time of the baseline over ours")
    axes.set_title(f"{record.shape}, {record.machine['device']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _bars(result: Result) -> list[tuple[str, float]]:
    return [(f"{result.case} / {name}", ratio.median) for name, ratio in result.ratio.items()]
