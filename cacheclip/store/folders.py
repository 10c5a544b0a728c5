"""Looking into folders: one that is closed to us is not one that is empty."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cacheclip.errors import StoreError
from cacheclip.files.refusals import RefusedError, unreadable
from cacheclip.store.schema import LAYERS, PARTS, TEXT

_STORE = re.compile(rf"({'|'.join((*LAYERS, TEXT, *PARTS))})-[0-9a-f]{{12}}")


def folders(path: Path) -> list[Path]:
    """The folders in a folder by name, links followed; none where it is not there.

    Raises:
        StoreError: it cannot be looked into.
    """
    with _looking(path):
        try:
            with os.scandir(path) as entries:
                return sorted(path / entry.name for entry in entries if _is_folder(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []


def there(path: Path) -> bool:
    """Whether there is something of this name.

    Raises:
        StoreError: that cannot be told.
    """
    with _looking(path.parent):
        return path.exists()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except PermissionError:
        return True  # whoever looks into it is told
    except OSError:
        return False  # a link to itself


@contextmanager
def _looking(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise RefusedError(
            "no permission to look into this folder",
            where=str(path),
            fix=f"chmod u+rwx {shlex.quote(str(path))}",
        ) from None
    except OSError as error:
        raise unreadable(error, path) from error


def store_folders(dataset: Path) -> list[Path]:
    """The folders two levels below that of a data set, where its stores lie.

    Raises:
        StoreError: one of those above them cannot be looked into.
    """
    splits = [split for split in folders(dataset) if not is_store(split)]
    return [store for split in splits for store in folders(split)]


def is_store(folder: Path) -> bool:
    """Whether a folder has the name of a store."""
    return _STORE.fullmatch(folder.name) is not None


def dataset_folders(
    stores: Path, depth: int, *, labels: str, key: str
) -> Iterator[Path | StoreError]:
    """The folders of data sets, and why each one that cannot be looked into cannot be.

    Args:
        stores: what all of them lie in.
        depth: the most parts that an id has.
        labels: the file that makes a folder one.
        key: the file of a store, which makes the folder two levels above it one.

    Raises:
        StoreError: `stores` itself cannot be looked into.
    """
    level = folders(stores)
    for left in reversed(range(depth)):
        below: list[Path] = []
        for path in level:
            try:
                if there(path / labels) or any(there(s / key) for s in store_folders(path)):
                    yield path
                below += [own for own in folders(path) if not is_store(own)] if left else []
            except StoreError as error:
                yield error
        level = below
