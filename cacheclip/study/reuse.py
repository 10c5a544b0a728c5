"""Rows that are there already: those of the log that prove themselves, and those in the making."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from math import inf

from cacheclip import results
from cacheclip.answers import intact, keep_ids
from cacheclip.files.disk import digest
from cacheclip.files.locks import LockedError, lock
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.data import SetData


class Log:
    """The log of a results folder, which other comparisons may write to at the same time."""

    def __init__(self, home: Home, data: SetData) -> None:
        self._home = home
        self._data = data
        self._size = -1  # of the log when it was last looked at, and what was added since

    def rows(self, row_ids: Collection[str], notice: Callable[[str], None]) -> dict[str, Row]:
        """The rows of these ids that are there with what they answered.

        Args:
            row_ids: the ids.
            notice: called with a line for the user where something is damaged.

        Raises:
            StoreError: the log cannot be read.
        """
        self._size = self._now()
        found = results.rows(self._home.root, row_ids, notice)
        if found and keep_ids(self._home.root, self._data.test_ids, proved=True):
            notice(f"tests/{self._data.test_id}.json was damaged and is made anew")
        kept = {
            row_id: row
            for row_id, row in found.items()
            if intact(self._home.root, row_id, row.predictions, row.top1_test)
        }
        if lost := len(found) - len(kept):
            rows, their = ("1 row is", "its") if lost == 1 else (f"{lost} rows are", "their")
            notice(f"{rows} made again: {their} predictions are not there or are damaged")
        return kept

    def younger(self, row_ids: Collection[str]) -> dict[str, Row]:
        """Such rows, where another process has written to the log since it was looked at."""
        return {} if self._now() == self._size else self.rows(row_ids, lambda text: None)

    def add(self, rows: Collection[Row]) -> None:
        """Append rows."""
        self._size += results.append(self._home.root, list(rows))

    def _now(self) -> int:
        path = self._home.root / results.LOG
        return path.stat().st_size if path.exists() else 0

    @contextmanager
    def turn(self, row: Row, notice: Callable[[str], None] | None = None) -> Iterator[bool]:
        """Keep other comparisons from making rows like this one: other seeds, other settings.

        Args:
            row: one of those that are to be made.
            notice: called with a line that says who makes such rows, before they are waited for.
                Without it nobody is waited for.

        Yields:
            Whether it is our turn.
        """
        like = [row.store_key, row.method, row.shots, row.select]
        path = self._home.root / "locks" / f"{digest(like)[:16]}.lock"
        with ExitStack() as held:
            ours = True
            try:
                held.enter_context(lock(path))
            except LockedError as error:
                ours = notice is not None
                if notice is not None:
                    notice(
                        f"{row.method} at --shots {row.shots}: {error.what}; waiting for its rows"
                    )
                    held.enter_context(lock(path, wait=inf))
            yield ours
