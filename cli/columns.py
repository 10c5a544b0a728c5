"""Tables as lines of text: aligned by what the columns hold, and no wider than a terminal."""

import re
from collections.abc import Sequence

LEAST = 8  # cells of a column that is shortened
GAP = "  "
ELLIPSIS = "…"
# A number with what may go with it: 57.9 ± 2.5, 71.6 (52-63), 12 of 20, 4.2 MB, 66 %.
_NUMBER = re.compile(
    r"[-+−]?\d(?:[\d.,e+ ±()%–/-]| to | of )*(?: ?(?:s|ms|µs|[kMGT]?B|x))?", re.ASCII
)
_ABSENT = ("", "-")


def layout(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> list[str]:
    """The lines of a table: texts to the left, numbers to the right.

    Args:
        headers: one a column.
        rows: cells, printable and on one line each.
        width: of the terminal; texts are shortened in their middle to fit, the widest columns
            first. None leaves them whole.
    """
    columns = Columns(headers, rows, width)
    return [*columns.head(), *columns.lines(rows)]


class Columns:
    """How wide the columns of a table are and which hold numbers, as its first rows decide."""

    def __init__(
        self, headers: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
    ) -> None:
        columns = list(zip(headers, *rows, strict=True))
        self._headers = headers
        self._numeric = [_is_numeric(column[1:]) for column in columns]
        widths = [max(map(cells, column)) for column in columns]
        self._widths = widths if width is None else _fit(widths, self._numeric, width)
        self._shorten = width is not None

    def head(self) -> list[str]:
        """The names of the columns, and a line below them."""
        return self.lines([self._headers, ["-" * size for size in self._widths]])

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """A line a row; a longer cell than the first rows had is whole, but on a terminal."""
        return [GAP.join(self._padded(row)).rstrip() for row in rows]

    def _padded(self, row: Sequence[str]) -> list[str]:
        padded = []
        for cell, width, is_number in zip(row, self._widths, self._numeric, strict=True):
            shown = shorten(cell, width) if self._shorten else cell
            space = " " * (width - cells(shown))
            padded.append(space + shown if is_number else shown + space)
        return padded


def cells(text: str) -> int:
    """The columns of a terminal that a text takes: two for a wide character of East Asia."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shorten(text: str, width: int) -> str:
    """A text in at most `width` columns of a terminal, without its middle if it is longer."""
    if cells(text) <= width:
        return text
    room = width - 1
    head = _start(text, (room + 1) // 2)
    tail = _start(text[::-1], room - cells(head))[::-1]
    return head + ELLIPSIS + tail


def _start(text: str, room: int) -> str:
    """As much of the beginning of a text as goes into `room` columns of a terminal."""
    taken = 0
    for place, character in enumerate(text):
        taken += cells(character)
        if taken > room:
            return text[:place]
    return text


def _is_numeric(column: Sequence[str]) -> bool:
    return all(cell in _ABSENT or _NUMBER.fullmatch(cell) for cell in column)


def _fit(widths: Sequence[int], numeric: Sequence[bool], width: int) -> list[int]:
    """Take from the widest texts until all fit."""
    fitted = list(widths)
    texts = [k for k, is_number in enumerate(numeric) if not is_number]
    excess = sum(fitted) + len(GAP) * (len(fitted) - 1) - width
    while excess > 0 and texts:
        widest = max(texts, key=lambda k: fitted[k])
        if fitted[widest] <= LEAST:
            break
        fitted[widest] -= 1
        excess -= 1
    return fitted
