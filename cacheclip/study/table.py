"""Result rows as the table that people read: methods down, shots across, percent."""

import shlex
from collections.abc import Sequence
from statistics import mean, stdev

from cacheclip.draws import ALL
from cacheclip.results import Row

Table = tuple[list[str], list[list[str]]]


def summary(rows: Sequence[Row]) -> Table:
    """Headers and cells; mean and standard deviation of test accuracy over seeds.

    Zero-shot reads no shots, so its one figure stands in every column. Rows whose settings were
    chosen by validation share a line; under `fixed` each combination of settings has its own.
    """
    counts = {row.shots for row in rows} - {0}
    shots = sorted(counts - {ALL}, key=int) + sorted(counts & {ALL}, key=str) or [0]
    lines: dict[tuple[str, str], dict[int | str, list[Row]]] = {}
    for row in rows:
        varied = _settings(row, rows) if row.select == "fixed" else ""
        columns = lines.setdefault((row.method, varied), {})
        for k in [row.shots] if row.shots else shots:
            columns.setdefault(k, []).append(row)
    headers = ["method", *(f"{k} shot{'' if k in (0, 1) else 's'}" for k in shots)]
    cells = [
        [f"{method} {varied}".rstrip(), *(_cell(columns.get(k, [])) for k in shots)]
        for (method, varied), columns in lines.items()
    ]
    return headers, cells


def again(rows: Sequence[Row]) -> list[str]:
    """The command that makes a bundle of one cell of the table: the last that went well."""
    good = [row for row in rows if row.error is None and row.shots]
    if not good:
        return []
    row = good[-1]
    own = {"dataset": row.dataset, "model": row.model, "pretrained": row.pretrained}
    own |= {
        "method": row.method,
        "shots": str(row.shots),
        "seed": str(row.seed),
        "select": row.select,
    }
    own |= {"recipe": row.recipe} if row.recipe else {}
    own |= {"fewer": row.fewer} if row.fewer != "error" else {}
    words = [word for name, value in own.items() for word in (f"--{name}", value)]
    if row.select == "fixed":
        words += [word for n, v in row.hparams.items() for word in ("--set", f"{n}={v}")]
    return [shlex.join(["cacheclip", "fit", *words])]


def line(row: Row) -> Table:
    """One row as a table: method, shots, policy, validation and test accuracy."""
    headers = ["method", "shots", "select", "val %", "test %"]
    accuracies = [_percent(row.top1_val), _percent(row.top1_test)]
    return headers, [[row.method, str(row.shots), row.select, *accuracies]]


def settings(row: Row) -> str:
    """All settings of a row that has run."""
    return " ".join(f"{name}={_short(value)}" for name, value in row.hparams.items()) or "none"


def _settings(row: Row, rows: Sequence[Row]) -> str:
    """The settings in which rows of the same method and shots differ."""
    peers = [r.hparams for r in rows if (r.method, r.shots) == (row.method, row.shots)]
    varied = [n for n in row.hparams if len({p.get(n) for p in peers}) > 1]
    return " ".join(f"{name}={_short(row.hparams[name])}" for name in varied)


def _short(value: float | int | str) -> str:
    """A setting for people: a number that a search found has more digits than it means."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(rows: Sequence[Row]) -> str:
    values = [100 * row.top1_test for row in rows if row.top1_test is not None]
    if not values:
        return "failed" if rows else ""
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"
