"""`food101`: Food-101 as torchvision and CoOp lay it out, under two ids that never mix.

`coop/food101` is CoOp's re-split of all 101,000 pictures, `torch/food101` the official split of
75,750 and 25,250; their accuracies cannot be compared. Plain `food101` is the first where CoOp's
split file lies with the data, else the second.
"""

import contextlib
import shlex
import sys
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

from cacheclip.datasets.base import DataSet, Request, Split
from cacheclip.datasets.layout import candidates, require_pictures
from cacheclip.datasets.splits import hash_split, read_coop_split, take
from cacheclip.errors import InputError, MachineError
from cacheclip.files import regular

NAMES = ("food101", "coop/food101", "torch/food101")
FOLDERS = ("food-101", "food101", "Food101")  # CoOp's and torchvision's name, ours, the class's
SPLIT_FILES = ("split_zhou_Food101.json", "split_zhou_Food101.json.gz")
ARCHIVE = "food-101.tar.gz"


def load(request: Request) -> DataSet:
    """The data set under the id that was asked for, or that the files decide.

    Raises:
        InputError: no data, no split file, or pictures missing.
        MachineError: the download needs torchvision.
    """
    if request.download and not _found(request.data_root):
        _download(request.data_root)
    found = _found(request.data_root)
    if not found:
        raise _no_data(request.data_root)
    root = found[0]
    split_file = next((root / name for name in SPLIT_FILES if (root / name).is_file()), None)
    if request.name == "torch/food101" or (request.name == "food101" and split_file is None):
        return _official(root, chosen_for_lack=request.name == "food101")
    if split_file is None:
        raise InputError(
            "CoOp's split file is missing",
            where=" or ".join(str(root / name) for name in SPLIT_FILES),
            fix="put it there (CoOp's DATASETS.md has the link), or use the official split: "
            + _extract("torch/food101", root.parent),
        )
    return _coop(root, split_file)


def _found(data_root: Path) -> list[Path]:
    return [path for path in candidates(data_root, FOLDERS) if (path / "images").is_dir()]


def _coop(root: Path, split_file: Path) -> DataSet:
    coop = read_coop_split(split_file)
    _require(root, "coop/food101", coop.splits)
    return DataSet(
        id="coop/food101",
        classnames=coop.classnames,
        templates="food101",
        splits=coop.splits,
        read=(root / "images").joinpath,
        root=root,
    )


def _official(root: Path, *, chosen_for_lack: bool) -> DataSet:
    """The official test split; of the official train split a fifth of each class is val."""
    lists = {split: _meta(root, split) for split in ("train", "test")}
    classnames = sorted(lists["train"])  # as torchvision numbers them
    if lists["test"].keys() != lists["train"].keys():
        odd = sorted(lists["test"].keys() ^ lists["train"].keys())
        raise _bad_meta(root, f"train and test differ in {len(odd)} classes: {', '.join(odd[:5])}")
    whole = {split: _numbered(lists[split], classnames) for split in lists}
    ids, labels = whole["train"].ids, whole["train"].labels
    if len(set(ids + whole["test"].ids)) < len(ids) + len(whole["test"].ids):
        raise _bad_meta(root, "a picture is listed twice")
    parts = hash_split(ids, labels, ("val",))
    splits = {split: take(ids, labels, rows) for split, rows in parts.items()}
    splits["test"] = whole["test"]
    _require(root, "torch/food101", splits)
    notice = (
        "food101: no CoOp split file beside the data, so this is torch/food101: the official train "
        "and test, val 20 % of each class of train by hash rank"
    )
    return DataSet(
        id="torch/food101",
        classnames=tuple(classnames),
        templates="food101",
        splits=splits,
        read=(root / "images").joinpath,
        notices=(notice,) if chosen_for_lack else (),
        root=root,
    )


def _meta(root: Path, split: str) -> dict[str, list[str]]:
    """Class name -> "CLASS/NUMBER" of its pictures, from meta/SPLIT.txt or meta/SPLIT.json."""
    text, table = root / "meta" / f"{split}.txt", root / "meta" / f"{split}.json"
    try:
        if text.is_file():
            pictures = [line.strip() for line in regular.read_text(text).splitlines()]
        else:
            lists = regular.parsed(regular.read_text(table)).values()
            pictures = [str(picture) for pictures in lists for picture in pictures]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise _bad_meta(root, f"no list of the {split} pictures ({error})") from error
    classes: dict[str, list[str]] = {}
    for picture in filter(None, pictures):
        name, slash, number = picture.partition("/")
        if not slash or not number or "/" in number or name in {"", ".", ".."}:
            raise _bad_meta(root, f"{split} lists {picture!r}, which is not CLASS/NUMBER")
        classes.setdefault(name, []).append(picture)
    return classes


def _numbered(pictures: dict[str, list[str]], classnames: list[str]) -> Split:
    """By class and name: the text and the JSON list differ in order, the ids must not."""
    rows = [
        (f"{picture}.jpg", label)
        for label, name in enumerate(classnames)
        for picture in sorted(pictures[name])
    ]
    return Split(tuple(id_ for id_, _ in rows), tuple(label for _, label in rows))


def _require(root: Path, name: str, splits: dict[str, Split]) -> None:
    ids = (id_ for split in splits.values() for id_ in split.ids)
    fix = (
        f"put the missing pictures back from {ARCHIVE}: {_unpack(root, 'images')}; "
        f"then {_extract(name, root.parent)}"
    )
    require_pictures(root / "images", ids, fix=fix)


def _unpack(root: Path, part: str) -> str:
    """The command that puts a part of the archive back and leaves the rest of the folder alone."""
    return (
        f"tar -xzf {ARCHIVE} --strip-components=1 -C {shlex.quote(str(root))} {FOLDERS[0]}/{part}"
    )


def _extract(name: str, data_root: Path) -> str:
    return f"cacheclip extract --dataset {name} --data-root {shlex.quote(str(data_root))}"


def _download(data_root: Path) -> None:
    try:
        from torchvision.datasets import Food101
    except ImportError as error:
        raise MachineError(
            "the download needs torchvision, which cannot be imported",
            where=str(error),
            fix="pip install torchvision, then run the same command again",
        ) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):
            Food101(data_root, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException, TarError) as error:
        raise InputError(
            f"Food-101 could not be downloaded ({error})",
            where=f"{Food101._URL} (5 GB), into {data_root}",
            fix=f"with a network, run again: {_extract('food101', data_root)} --download; or "
            f"unpack {ARCHIVE} into {data_root}",
        ) from error


def _no_data(data_root: Path) -> InputError:
    return InputError(
        "Food-101 is not on this machine",
        where=f"{data_root} holds none of {', '.join(f'{name}/images' for name in FOLDERS)}",
        fix="add --download (5 GB), or --data-root FOLDER (or $CACHECLIP_DATA) that holds "
        f"{FOLDERS[0]}/images and {FOLDERS[0]}/meta",
    )


def _bad_meta(root: Path, what: str) -> InputError:
    return InputError(
        f"Food-101's lists are faulty: {what}",
        where=str(root / "meta"),
        fix=f"put them back from {ARCHIVE}: {_unpack(root, 'meta')}; or use CoOp's split, with "
        f"{SPLIT_FILES[0]} in {root}: {_extract('coop/food101', root.parent)}",
    )
