"""A table of results: rows, what went wrong, and how people read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from cacheclip.errors import MachineError, plain, some
from cacheclip.results import Row
from cacheclip.study import next_step
from cacheclip.study.target_table import table_of


@dataclass(frozen=True)
class Table:
    """What a comparison found.

    Attributes:
        rows: one a method, settings, shots and seed, in the order asked for; docs/rows.md says
            what each field is. Accuracies are fractions.
        notices: what the numbers are worth and what there is to know of the draws, a line each.
    """

    rows: Sequence[Row]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def errors(self) -> list[Row]:
        """The rows that have no result; `error` says why."""
        return [row for row in self.rows if row.error is not None]

    @property
    def best(self) -> Row | None:
        """The row with the best validation accuracy at the most shots; test accuracy has no say."""
        return next_step.best(self.rows)

    def to_pandas(self) -> Any:
        """The rows as a DataFrame, a column a field.

        Raises:
            MachineError: there is no pandas.
        """
        try:
            import pandas
        except ImportError:
            raise MachineError(
                "there is no pandas", where="table.to_pandas()", fix="pip install pandas"
            ) from None
        return pandas.DataFrame([row.as_json() for row in self.rows])

    def __repr__(self) -> str:
        headers, cells = table_of(self.rows)
        widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in (headers, *cells)
        ]
        return "\n".join([*lines, *self._reasons(), *self.notices])

    def _reasons(self) -> list[str]:
        """Why rows failed, a line for each reason."""
        found: dict[str, list[str]] = {}
        for row in self.errors:
            cell = f"{row.method} at {row.shots} shots"
            what, *_, fix = str(row.error).splitlines()
            why = "; ".join(dict.fromkeys([what.removeprefix("error: "), fix]))
            cells = found.setdefault(why, [])
            cells += [cell] * (cell not in cells)
        return [f"failed: {some(cells)}: {plain(why)}" for why, cells in found.items()]

    def _repr_html_(self) -> str:
        headers, cells = table_of(self.rows)
        head = "".join(f"<th>{escape(text)}</th>" for text in headers)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in cells
        )
        lines = (*self._reasons(), *self.notices)
        notes = "".join(f"<div>{escape(line)}</div>" for line in lines)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"{table}{notes}"
