"""Which rows of a log can be compared: those that agree with the ones logged last."""

import json
import shlex
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cacheclip.errors import StoreError, counted
from cacheclip.files.disk import read_json
from cacheclip.results import Row


@dataclass(frozen=True)
class Wanted:
    """Which rows of a log count; what is left open counts whole."""

    datasets: Collection[str] = ()
    shots: Collection[int | str] = ()
    model: str | None = None
    draw: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """Rows that cannot be compared with those that count.

    Attributes:
        rows: at least one.
        what: of them, such as "of other draws".
    """

    rows: Sequence[Row]
    what: str

    def option(self, row: Row) -> str:
        """What on a command line makes one of them count; nothing where nothing does."""
        if self.what.endswith("(--draw)"):
            return f"--draw {row.draw}"
        if self.what.endswith("(--model)"):
            return f"--model {shlex.quote(f'{row.model}@{row.pretrained}')}"
        return ""

    def __str__(self) -> str:
        return f"{counted(len(self.rows), 'row')} {self.what} left out: the last logged count"


def counting(rows: Sequence[Row], wanted: Wanted) -> list[Row]:
    """The rows that the user's options leave; what draws nothing counts for all shots."""
    name, _, weights = (wanted.model or "").partition("@")
    return [
        row
        for row in rows
        if (
            not wanted.datasets
            or {row.dataset, row.dataset.rpartition("/")[2]} & {*wanted.datasets}
        )
        and (not wanted.shots or not row.shots or row.shots in wanted.shots)
        and name in ("", row.model)
        and weights in ("", row.pretrained)
        and (not row.shots or wanted.draw in (None, row.draw))
    ]


def comparable(rows: Sequence[Row], root: Path) -> tuple[list[Row], list[LeftOut]]:
    """The rows that agree with those logged last in all that makes accuracies comparable.

    Args:
        rows: in the order of the log.
        root: the folder that the log lies in, with the record of each draw.
    """
    support = _supports(rows, root)
    rules: list[tuple[str, Callable[[Row], Hashable], Callable[[Row], Hashable]]] = [
        ("of other encoders (--model)", lambda row: 0, lambda row: (row.model, row.pretrained)),
        (
            "on other test pictures or labels",
            lambda row: (row.dataset, row.classes),
            lambda row: (row.test_id, row.labels, row.protocol_version),
        ),
        (
            "of other draws (--draw)",
            lambda row: (row.dataset, row.classes, row.shots == 0),
            lambda row: row.draw,
        ),
        (
            "on other support pictures of the same shots and seed",
            lambda row: (row.dataset, row.classes, row.shots, row.seed),
            lambda row: support.get(row.draw_id or ""),
        ),
        (
            "of other versions of their methods",
            lambda row: row.method,
            lambda row: row.method_version,
        ),
        (
            "chosen by other versions of their policies",
            lambda row: (row.method, row.select),
            lambda row: row.choice_version,
        ),
    ]
    left_out = []
    for what, group, key in rules:
        last = {group(row): key(row) for row in rows}
        kept = [row for row in rows if last[group(row)] == key(row)]
        if lost := [row for row in rows if last[group(row)] != key(row)]:
            left_out.append(LeftOut(lost, what))
        rows = kept
    return list(rows), left_out


def _supports(rows: Sequence[Row], root: Path) -> dict[str, str]:
    """What tells the support set of a draw from others, by draw_id.

    That is the draw itself, which holds its validation pictures too; records are read only where
    several draws go by the same shots and seed, since there the policies may have chosen on more.
    """
    met: dict[Hashable, set[str]] = {}
    for row in rows:
        if row.shots and row.draw_id:
            met.setdefault((row.dataset, row.shots, row.seed), set()).add(row.draw_id)
    found = {draw: draw for draws in met.values() for draw in draws}
    for draw in {draw for draws in met.values() if len(draws) > 1 for draw in draws}:
        with suppress(StoreError, FileNotFoundError):
            found[draw] = json.dumps(read_json(root / "draws" / f"{draw}.json")["support"])
    return found
