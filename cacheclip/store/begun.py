"""The key.json files of a data set's stores, and how far each store has got."""

from dataclasses import dataclass
from pathlib import Path

from cacheclip.errors import StoreError
from cacheclip.store.folders import folders
from cacheclip.store.header import Header, dataset_of, header_there
from cacheclip.store.reader import IncompleteStoreError, Store


def headers(folder: Path, home: str) -> tuple[list[tuple[Header, Path]], dict[Path, StoreError]]:
    """The key.json files of a split's stores, and why each one that cannot be read cannot be.

    Raises:
        StoreError: the folder cannot be looked into.
    """
    found: list[tuple[Header, Path]] = []
    broken: dict[Path, StoreError] = {}
    for path in folders(folder):
        try:
            command = f"cacheclip extract --dataset {dataset_of(path)}"
            if (header := header_there(path, home, command)) is not None:
                found.append((header, path))
        except StoreError as error:
            broken[path] = error
    return found, broken


@dataclass(frozen=True)
class Begun:
    """An image store of whatever samples, as far as it has got.

    Attributes:
        header: its key.json.
        path: its folder.
        done: finished shards.
        total: shards of its plan.
        failed: rows of the finished shards that have no vector.
        problem: why it can be neither opened nor completed as it is.
    """

    header: Header
    path: Path
    done: int
    total: int
    failed: int
    problem: StoreError | None = None


def begun(folder: Path, home: str) -> list[Begun]:
    """The image stores of a data set whose key can be read.

    Args:
        folder: the data set's folder.
        home: `Home.option`.
    """
    found = []
    for header, path in _readable(folder, home)[0]:
        if "data" in header.key:
            try:
                store = Store.open(path, home, header)
                shards = len(store.records)
                found.append(Begun(header, path, shards, shards, store.failed))
            except IncompleteStoreError as error:
                found.append(Begun(header, path, error.done, error.total, error.failed))
            except StoreError as error:
                found.append(Begun(header, path, 0, 0, 0, error))
    return found


def unread(folder: Path, home: str) -> list[StoreError]:
    """Why each key.json and folder of a data set that cannot be read cannot be.

    Args:
        folder: the data set's folder.
        home: `Home.option`.
    """
    return _readable(folder, home)[1]


def _readable(folder: Path, home: str) -> tuple[list[tuple[Header, Path]], list[StoreError]]:
    """The headers of the stores of a data set, and why each other one cannot be read."""
    readable: list[tuple[Header, Path]] = []
    errors: list[StoreError] = []
    try:
        splits = folders(folder)
    except StoreError as error:
        return [], [error]
    for split in splits:
        try:
            found, broken = headers(split, home)
        except StoreError as error:
            errors.append(error)
        else:
            readable += found
            errors += broken.values()
    return readable, errors
