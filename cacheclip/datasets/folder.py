"""`folder/PATH`: the user's own pictures, one folder a class, with or without split folders."""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cacheclip.datasets.base import TABLES, DataSet, Request
from cacheclip.datasets.class_folders import WANTED, read_layout
from cacheclip.datasets.copies import FileInfo, file_info
from cacheclip.datasets.labelled import Sample, labelled_set, listed
from cacheclip.datasets.listing import pictures, subfolders
from cacheclip.datasets.suffixes import suffix, unread
from cacheclip.errors import SHOWN, InputError
from cacheclip.files import regular
from cacheclip.store.key import NAME_RULE, can_be_name

NAMES = ("folder/PATH",)


def load(request: Request) -> DataSet:
    """The folder as a data set named "folder/NAME"; a sample's id is its path in the folder.

    Folders that stand for splits by their names are honoured; a split that is missing is cut out
    of train, a fifth of each class by hash rank; without a train folder everything is cut
    60/20/20.

    Raises:
        InputError: no such folder, no pictures, fewer than two classes, a class without training
            pictures, folders that can be read in two ways, or names that cannot be ids.
    """
    root = _root(request.name)
    name = dataset_name(root, root.name, request.alias)
    try:
        found, others = pictures(root)
        _refuse_names(found, root)
        infos = _infos(root, found)
        gone = [id_ for id_ in found if id_ not in infos]
        others += gone
        layout = read_layout(root, list(infos), request.classes_from)
        if len({sample.classname for sample in layout.samples}) < 2:
            raise _too_few_classes(root, layout.samples, list(infos), others)
        ignored = [folder for folder in subfolders(root) if folder not in layout.used]
        notices = list(layout.notices)
        if ignored:
            notices.append(f"ignored, no class folders with pictures: {', '.join(ignored)}")
        if missed := unread(others):
            notices.append(missed)
        if gone:
            notices.append(f"links that lead to no file, left out: {listed(gone, 5)}")
        return labelled_set(
            layout.samples,
            infos,
            id_=f"folder/{name}",
            root=root,
            folder=root,
            unit="folders",
            hash_files=request.hash_files,
            notices=notices,
        )
    except OSError as error:
        raise InputError(
            f"a folder cannot be read: {error.strerror}",
            where=str(error.filename),
            fix="check its permissions, then run the same command again",
        ) from error


def named_path(name: str, prefix: str, is_there: Callable[[str | Path], bool]) -> Path:
    """The path in "folder/PATH" or "csv/FILE"; it may itself begin with a folder of that name."""
    path = regular.expanded(name.removeprefix(prefix))
    return Path(name) if not is_there(path) and is_there(name) else path


def _root(name: str) -> Path:
    """The folder of "folder/PATH"."""
    path = named_path(name, "folder/", os.path.isdir)
    if not os.path.isdir(path):  # noqa: PTH112  (Path's raises)
        raise InputError(
            f"there is no folder {str(path)!r}",
            where=str(path.absolute()),
            fix=f"cacheclip extract --dataset folder/PATH, with {WANTED}",
        )
    # Normalised as text: of a link, the link's own name is the one that the user knows.
    return Path(os.path.abspath(path))  # noqa: PTH100


def dataset_name(root: Path, own: str, alias: str | None) -> str:
    """The NAME in a data set's id: the alias, else its own.

    Raises:
        InputError: it cannot be one, or the path is no text.
    """
    regular.refuse_no_text(root)
    name = own if alias is None else alias
    if not can_be_name(name):
        raise InputError(
            f"{name!r} cannot be the name of a data set",
            where=str(root) if alias is None else "--name",
            fix=f"{NAME_RULE}: cacheclip extract --dataset {shlex.quote(str(root))} --name NAME",
        )
    return name


def _refuse_names(ids: Iterable[str], root: Path) -> None:
    bad = [id_ for id_ in ids if not regular.is_line(id_)]
    if bad:
        raise InputError(
            f"{len(bad)} file names are not UTF-8 text in one line: {bad[0]!a}",
            where=str(root),
            fix=" && ".join(dict.fromkeys(regular.renaming(root / id_) for id_ in bad[:SHOWN])),
        )


def _infos(root: Path, ids: Iterable[str]) -> dict[str, FileInfo]:
    """What the file system says of each picture; links to nothing are left out."""
    infos = ((id_, file_info(f"{root}/{id_}")) for id_ in ids)
    return {id_: info for id_, info in infos if info is not None}


def _too_few_classes(
    root: Path, samples: Sequence[Sample], ids: Sequence[str], others: Sequence[str]
) -> InputError:
    """The refusal of a folder with one class or none."""
    if samples:
        what = f"only one class folder with pictures, {samples[0].classname!r}"
    elif ids:
        what = f"{len(ids):,} pictures lie directly in the folder, so they have no class"
    else:
        what = "no pictures in the folder"
    counts = Counter(suffix(path) or "no extension" for path in (*ids, *others))
    seen = ", ".join(f"{end} {count:,}" for end, count in counts.most_common(8))
    where = f"files seen: {seen}" if seen else "no files at all"
    tables = [path for path in others if "/" not in path and path.lower().endswith(TABLES)]
    table = shlex.quote(str(root / tables[0])) if tables else "csv/FILE, a table of path and label"
    return InputError(
        what,
        where=f"{root} ({where})",
        fix=f"make {WANTED}; or cacheclip extract --dataset {table}",
    )
