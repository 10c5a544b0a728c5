"""Looking into folders: one that is closed to us is not one that is empty."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cacheclip.errors import StoreError


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
        raise StoreError(
            "no permission to look into this folder",
            where=str(path),
            fix=f"chmod u+rwx {shlex.quote(str(path))}",
        ) from None
    except OSError as error:
        raise StoreError(
            f"this folder cannot be looked into: {error.strerror}",
            where=str(path),
            fix="look at the disk and the path, then run the same command again",
        ) from error
