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
    columns = list(zip(headers, *rows, strict=True))
    numeric = [_is_numeric(column[1:]) for column in columns]
    widths = [max(map(cells, column)) for column in columns]
    if width is not None:
        widths = _fit(widths, numeric, width)
    lines = [headers, ["-" * size for size in widths], *rows]
    return [GAP.join(_line(line, widths, numeric)).rstrip() for line in lines]


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


def _line(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    padded = []
    for cell, width, is_number in zip(line, widths, numeric, strict=True):
        shown = shorten(cell, width)
        space = " " * (width - cells(shown))
        padded.append(space + shown if is_number else shown + space)
    return padded
