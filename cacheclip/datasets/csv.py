"""`csv/FILE`: the user's own pictures, listed in a table of path, label and perhaps split."""

import codecs
import csv
import io
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from cacheclip.datasets.base import DataSet, Request
from cacheclip.datasets.copies import file_info
from cacheclip.datasets.folder import dataset_name, named_path
from cacheclip.datasets.labelled import Sample, labelled_set, listed
from cacheclip.errors import InputError
from cacheclip.files import regular
from cacheclip.store.split_words import split_of

NAMES = ("csv/FILE",)
# Letters of the headers that are understood, the best first.
HEADERS = {
    "path": (
        *("path", "filepath", "imagepath", "imgpath", "file", "filename", "imagefile"),
        *("imagefilename", "imagename", "image", "images", "img", "picture", "photo", "imageid"),
    ),
    "label": (
        *("label", "class", "classname", "category", "categoryname", "target", "species"),
        *("labels", "labelname", "tag", "classes"),
    ),
    "split": ("split", "set", "subset", "partition", "usage", "phase", "fold"),
}
DELIMITERS = (",", ";", "\t")
LONGEST = 100  # letters of a cell that may be a header
WANTED = "path and label (and split, if there is one)"


class _Row(NamedTuple):
    """A line of the table; `line` counts from 1, the header's."""

    line: int
    path: str
    label: str
    split: str | None


def load(request: Request) -> DataSet:
    """The listed pictures as a data set "csv/NAME", cut and stamped as a folder's are.

    Paths start at the folder of the file; a sample's id is its path from there.

    Raises:
        InputError: no such file, no table with these columns, or rows that do not stand for one
            picture in the folder with one label each.
    """
    file = _file(request.name)
    name = dataset_name(file, file.stem, request.alias)
    rows, notices = _read(file)
    _refuse(file, rows, "have no label", lambda row: None if row.label else row.path)
    _refuse_paths(file, rows)
    ids = [_id(row.path, file.parent) for row in rows]
    infos = {
        id_: info
        for id_ in ids
        if (info := file_info(f"{file.parent}/{id_}")) and (file.parent / id_).is_file()
    }
    lost = {row.line for row, id_ in zip(rows, ids, strict=True) if id_ not in infos}
    _refuse(
        file,
        rows,
        "name files that are not there",
        lambda row: row.path if row.line in lost else None,
        fix=f"paths start at {file.parent}: correct them, or take the rows out",
    )
    samples = [
        Sample(id_, row.label, split_of(row.split) if row.split is not None else None)
        for row, id_ in zip(rows, ids, strict=True)
    ]
    if len({sample.classname for sample in samples}) < 2:
        raise InputError(
            f"only one class, {samples[0].classname!r}" if samples else "no rows below the header",
            where=str(file),
            fix="list pictures of two classes at least",
        )
    return labelled_set(
        samples,
        infos,
        id_=f"csv/{name}",
        root=file,
        folder=file.parent,
        unit="rows",
        hash_files=request.hash_files,
        notices=notices,
    )


def _file(name: str) -> Path:
    """The file of "csv/FILE"."""
    path = named_path(name, "csv/", os.path.isfile)
    if not os.path.isfile(path):  # noqa: PTH113  (Path's raises)
        raise InputError(
            f"there is no file {str(path)!r}",
            where=str(path.absolute()),
            fix=f"cacheclip extract --dataset csv/FILE, a table with the columns {WANTED}",
        )
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read(file: Path) -> tuple[list[_Row], list[str]]:
    """The rows that are not blank, and what may not be expected about the columns."""
    text = _text(file)
    delimiter, columns, notices = _columns(file, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    spelt: dict[str, set[str]] = {}
    try:
        width = len(next(reader))
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) != width:
                    _fail(
                        file,
                        f"line {line} has {len(cells)} columns, and the header {width}",
                        fix='put names that hold the separator into quotes: "a, b.jpg"',
                    )
                path, written, *split = (cells[column].strip() for column in columns)
                label = unicodedata.normalize("NFC", written)
                spelt.setdefault(label, set()).add(written)
                rows.append(_Row(line, path, label, split[0] if split else None))
            line = reader.line_num + 1
    except csv.Error as error:
        _fail(file, f"line {reader.line_num} is no line of a table: {error}", fix="correct it")
    _refuse(
        file,
        rows,
        "have a split that is none",
        lambda row: None if row.split is None or split_of(row.split) else repr(row.split),
        fix="write train, val or test, or leave the column out to have them cut",
    )
    if twins := [label for label, ways in spelt.items() if len(ways) > 1]:
        notices.append(
            f"one class each, though their labels are other bytes (NFC and NFD): {listed(twins, 5)}"
        )
    return rows, notices


def _text(file: Path) -> str:
    try:
        data = regular.read_bytes(file)
    except OSError as error:
        _fail(file, f"the file cannot be read: {error.strerror}", fix="check its permissions")
    except ValueError as error:
        _fail(file, f"the file cannot be read: {error}", fix="cut it into several tables")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        new = shlex.quote(str(file.with_stem(f"{file.stem}-utf8")))
        coding = "UTF-16" if wide else "WINDOWS-1252"
        old = shlex.quote(str(file))
        _fail(
            file,
            f"the table is not UTF-8 text (line {line})",
            fix=f"iconv -f {coding} -t UTF-8 {old} > {new} && cacheclip extract --dataset {new}",
        )


def _columns(file: Path, text: str) -> tuple[str, list[int], list[str]]:
    """The delimiter, the columns of path, label and perhaps split, and what to tell of them."""
    first = next(iter(text.splitlines()), "")
    for delimiter in DELIMITERS:
        header = _header(first, delimiter)
        letters = [re.sub(r"[\W_]+", "", cell[:LONGEST]).casefold() for cell in header]
        found = {role: _candidates(letters, known) for role, known in HEADERS.items()}
        if found["path"] and found["label"]:
            notices = [
                f"{role}s are those of column {header[columns[0]]!r}, not of "
                + ", ".join(repr(header[column]) for column in columns[1:])
                for role, columns in found.items()
                if len(columns) > 1
            ]
            return delimiter, [columns[0] for columns in found.values() if columns], notices
    shown = first if len(first) <= 80 else f"{first[:79]}…"
    _fail(
        file,
        f"no columns path and label in the first line: {shown!r}",
        fix=f"name them there: {WANTED}; filename, image, class, category, ... are understood too",
    )


def _header(line: str, delimiter: str) -> list[str]:
    """The cells of a first line; none where it is no line of a table."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _candidates(letters: Sequence[str], known: Sequence[str]) -> list[int]:
    """The columns with a known name, the best first."""
    return sorted(
        (column for column, name in enumerate(letters) if name in known),
        key=lambda column: known.index(letters[column]),
    )


def _id(path: str, folder: Path) -> str:
    """The path from the folder on, in one spelling; "" where it leads elsewhere."""
    if "\\" in path and "/" not in path and not os.path.exists(folder / path):  # noqa: PTH110
        path = path.replace("\\", "/")  # written on Windows
    relative = os.path.relpath(os.path.normpath(folder / path), folder)
    if _leaves(relative) and os.path.isabs(path):  # noqa: PTH117  (it may be there by another name)
        above, name = os.path.split(path)
        relative = os.path.relpath(f"{os.path.realpath(above)}/{name}", os.path.realpath(folder))
    return "" if _leaves(relative) else relative


def _leaves(relative: str) -> bool:
    """Whether a relative path leads to no file in the folder where it starts."""
    return relative == "." or relative.split("/")[0] == ".."


def _refuse_paths(file: Path, rows: Sequence[_Row]) -> None:
    """Refuse paths that cannot be ids, or are one picture twice."""
    first: dict[str, int] = {}

    def repeated(row: _Row) -> str | None:
        line = first.setdefault(_id(row.path, file.parent), row.line)
        return None if line == row.line else f"{row.path} as line {line}"

    _refuse(file, rows, "have no path", lambda row: None if row.path else repr(row.label))
    _refuse(
        file,
        rows,
        "have a path with a line break or NUL in it",
        lambda row: None if regular.is_line(row.path) and "\0" not in row.path else repr(row.path),
    )
    _refuse(
        file,
        rows,
        "leave the folder of the file",
        lambda row: None if _id(row.path, file.parent) else row.path,
        fix="put the file into a folder above all pictures, and write the paths from there",
    )
    _refuse(file, rows, "name a picture again", repeated, fix="leave one row a picture")


def _refuse(
    file: Path,
    rows: Sequence[_Row],
    what: str,
    fault: Callable[[_Row], str | None],
    fix: str = "correct these lines, or take them out",
) -> None:
    """Refuse rows with a fault, by line number."""
    faults = [f"line {row.line} {text}" for row in rows if (text := fault(row)) is not None]
    if faults:
        _fail(file, f"{len(faults):,} of {len(rows):,} rows {what}: {listed(faults, 5)}", fix=fix)


def _fail(file: Path, what: str, *, fix: str) -> NoReturn:
    raise InputError(what, where=str(file), fix=fix)
