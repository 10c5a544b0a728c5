"""What commands print: JSON and tables on stdout; talk and progress on stderr."""

import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cacheclip.cli.columns import Columns
from cacheclip.errors import StoreError, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheclip.store.remove import Part


STDOUT, STDERR = 1, 2
_refused: list[OSError] = []  # why stdout took no more, told by `settle` when all else is done


def data(value: Any) -> None:
    """Print JSON for machines."""
    _print(json.dumps(value, indent=2, allow_nan=False))


def say(*lines: str) -> None:
    """Print lines of the answer."""
    for line in lines:
        _print(plain(line))


def talk(*lines: str) -> None:
    """Say something to the person at the keyboard."""
    for line in lines:
        try:
            click.echo(plain(line), err=True)
        except OSError:
            _give_up(STDERR)  # a full disk behind stderr must not cost the answer


def show(error: click.ClickException) -> None:
    """Print a usage error in click's own form, which repeats what was written as it is."""
    form = io.StringIO()
    error.show(form)
    talk(*form.getvalue().removesuffix("\n").split("\n"))


def takes_more() -> bool:
    """Whether stdout takes more: asked by a line end, which an error of ours may well begin."""
    try:
        click.echo()
    except OSError:
        return False
    return True


def settle() -> None:
    """Flush the answer.

    Raises:
        StoreError: stdout did not take all of it. Files, rows and bundles were written before.
    """
    try:
        click.echo(nl=False)
    except OSError as error:
        refuse(error)
    if _refused:
        why = _refused.pop().strerror
        raise StoreError(
            f"the answer could not be printed: {why}",
            where="stdout",
            fix="print it elsewhere with the same command; what it computed and kept is safe",
        )


def refuse(error: OSError) -> None:
    """Note that stdout takes no more; what is printed from now on goes nowhere."""
    _refused.append(error)
    _give_up(STDOUT)


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError as error:
        refuse(error)


def _give_up(descriptor: int) -> None:
    """Let a stream that fails lead nowhere, so that its buffer does not fail again at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a plain table: texts to the left, numbers to the right.

    On a terminal long texts are shortened so that a row takes one line; in a pipe all is whole.
    """
    if rows and title:
        _print(f"\n{plain(title)}")
    Table(headers).add(rows)


class Table:
    """A table that is printed while its rows come, aligned by the first of them."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = headers
        self._columns: Columns | None = None

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Print some more rows, the first with the head above them."""
        if not rows:
            return
        shown = [[plain(cell) for cell in row] for row in rows]
        head: list[str] = []
        if self._columns is None:
            terminal = sys.stdout is not None and sys.stdout.isatty()
            width = shutil.get_terminal_size().columns if terminal else None
            self._columns = Columns(self._headers, shown, width)
            head = self._columns.head()
        _print("\n".join([*head, *self._columns.lines(shown)]))


def text(value: str) -> None:
    """Print a text for machines as it is; what is not Unicode in it is spelled out.

    On a terminal it is for people, whom it must not surprise.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        say(*value.removesuffix("\n").split("\n"))
        return
    _print(value.removesuffix("\n").encode(errors="backslashreplace").decode())


def parts(parts: "Sequence[Part]", root: Path, *, as_json: bool) -> None:
    """Print what goes, or would go, from a home."""
    if as_json:
        data([part.as_json() for part in parts])
    else:
        table(["path", "what", "MB"], [part.as_cells(root) for part in parts])


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
def progress(*, beside: bool = False) -> Iterator["Callable[[str, float, float], None]"]:
    """A bar on stderr with speed and time left, shown only on a terminal.

    Call the result with what is being done, how much is done, and how much there is.

    Args:
        beside: whether the answer is printed meanwhile: a terminal that shows it shows no bar.
    """
    shown = sys.stderr.isatty() and not (beside and sys.stdout.isatty())
    if not shown:
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
    # Left to itself, it would lead what is printed meanwhile to stderr too.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=int(done), total=int(total)
        )
