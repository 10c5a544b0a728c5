"""Tables: what is shortened, what is aligned where, and that a row takes one line."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from cacheclip.cli.columns import cells, layout, shorten


def test_texts_stand_left_and_numbers_right() -> None:
    rows = [["bird", "0.9", "a.jpg", "1,024"], ["flagpole", "-", "long/b.jpg", "7"]]
    assert layout(["class", "p", "image", "n"], rows) == [
        "class       p  image           n",
        "--------  ---  ----------  -----",
        "bird      0.9  a.jpg       1,024",
        "flagpole    -  long/b.jpg      7",
    ]


@pytest.mark.parametrize(
    "cell",
    ["57.9 ± 2.5", "71.6 (52-63)", "46.1-70.3", "12 of 20", "66 %", "4.2 MB", "-0.3", "1e-3"],
)
def test_what_counts_as_a_number(cell: str) -> None:
    wide = layout(["a long header", "x"], [[cell, "x"]])
    assert wide[2].startswith(" ")


@pytest.mark.parametrize("cell", ["3d-shapes", "000.jpg", "nano@v1", "12 birds"])
def test_what_counts_as_a_text(cell: str) -> None:
    assert layout(["a long header", "x"], [[cell, "x"]])[2].startswith(cell)


def test_a_long_name_is_shortened_in_its_middle_and_pushes_nothing_off() -> None:
    row = ["a" * 240, "0.981", f"photos/{'deep/' * 40}IMG_0001.jpg", "fruit 0.010, flag 0.009"]
    headers = ["class", "probability", "image", "then"]
    lines = layout(headers, [row, ["bird", "0.5", "b.jpg", ""]], width=110)
    assert max(map(len, lines)) <= 110
    assert "0.981" in lines[2]
    assert "IMG_0001.jpg" in lines[2]
    assert row[3] in lines[2]  # what is short enough stays whole
    whole = layout(headers, [row])
    assert row[0] in whole[2] and row[2] in whole[2]


def test_a_table_that_fits_is_not_touched() -> None:
    rows = [["bird", "0.5", "b.jpg"]]
    assert layout(["class", "p", "image"], rows, width=200) == layout(["class", "p", "image"], rows)


def test_numbers_are_never_cut() -> None:
    line = layout(["n"] * 8, [["1234567890"] * 8], width=40)[2]
    assert line.split() == ["1234567890"] * 8


def test_wide_characters_take_two_columns() -> None:
    assert cells("水果") == 4
    lines = layout(["class", "p"], [["水果 フルーツ", "0.5"], ["flag", "0.25"]])
    assert [cells(line) for line in lines] == [19, 19, 19, 19]
    assert cells(shorten("水" * 50, 20)) <= 20
    assert shorten("abcdefghij", 5) == "ab…ij"


def test_a_terminal_gets_one_line_a_row_and_a_pipe_the_whole() -> None:
    code = (
        "from cacheclip.cli import output\n"
        "output.table(['class', 'p', 'image'], [['bird' * 60, '0.981', 'x/' * 90 + '1.jpg'],"
        " ['a\\x1b[31mb', '0.5', 'y.jpg']])"
    )
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bird" * 60 in piped.stdout
    assert "a\\x1b[31mb" in piped.stdout
    assert "\x1b" not in piped.stdout

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=environment) as running:
        assert running.wait(timeout=60) == 0
    os.close(theirs)
    shown = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert len(shown) == 4
    assert max(map(cells, shown)) <= 72
    assert "0.981" in shown[2]
