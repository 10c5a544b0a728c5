"""What commands print: JSON and tables on stdout; talk and progress on stderr."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheclip.store.remove import Part


def data(value: Any) -> None:
    """Print JSON for machines."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def talk(*lines: str) -> None:
    """Say something to the person at the keyboard."""
    for line in lines:
        click.echo(line, err=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a plain table: the first column to the left, the others to the right."""
    if not rows:
        return
    if title:
        click.echo(f"\n{title}")
    widths = [max(len(r[k]) for r in [headers, *rows]) for k in range(len(headers))]
    for cells in (headers, ["-" * w for w in widths], *rows):
        line = [
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        click.echo("  ".join(line).rstrip())


def parts(parts: "Sequence[Part]", root: Path, *, as_json: bool) -> None:
    """Print what goes, or would go, from a home."""
    if as_json:
        data([part.as_json() for part in parts])
    else:
        table(["path", "what", "MB"], [part.as_cells(root) for part in parts])


def ranked(top: Sequence[tuple[str, float]]) -> str:
    """Classes with their probabilities in one line."""
    return ", ".join(f"{name} {p:.3f}" for name, p in top)


def lines(value: Any) -> list[str]:
    """A value of JSON for people: an entry of a list or an object a line."""
    if isinstance(value, dict):
        return [f"{name}: {_inline(part)}" for name, part in value.items()] or ["none"]
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return [_inline(part) for part in value]
    return [_inline(value)]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_inline(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_inline, value)) or "none"
    return "-" if value is None else str(value)


@contextmanager
def progress() -> Iterator["Callable[[str, float, float], None]"]:
    """A bar on stderr with speed and time left, shown only on a terminal.

    Call the result with what is being done, how much is done, and how much there is.
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=int(done), total=int(total)
        )
