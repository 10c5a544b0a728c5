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
from cacheclip.store.scope import ALL


@dataclass(frozen=True)
class Wanted:
    """Which rows of a log count; what is left open counts whole.

    Attributes:
        datasets: learned from.
        shots: support images a class.
        model: NAME or NAME@TAG of the encoder.
        draw: how support sets were drawn.
        classes: that count, as `classes_of` has them.
        test_on: the data set that is tested on, where that is another.
    """

    datasets: Collection[str] = ()
    shots: Collection[int | str] = ()
    model: str | None = None
    draw: str | None = None
    classes: str = ALL
    test_on: str | None = None


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


def classes_of(row: Row) -> str:
    """The classes that it is tested on, behind those that it learned from: `base-to-new`."""
    moved = row.learned_classes not in (None, row.classes) and row.eval_dataset == row.dataset
    return f"{row.learned_classes}-to-{row.classes}" if moved else row.classes


def _is_of(row: Row, wanted: Wanted) -> bool:
    """Whether it is tested on what counts; what draws nothing learned from no classes."""
    tested = wanted.classes.rpartition("-to-")[2]
    if wanted.test_on is None:
        own = classes_of(row) == wanted.classes or (not row.shots and row.classes == tested)
        return own and row.eval_dataset == row.dataset
    return wanted.test_on in (row.eval_dataset, row.eval_dataset.rpartition("/")[2])


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
        and _is_of(row, wanted)
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
