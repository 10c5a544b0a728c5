"""What a study keeps in a results folder: rows, draws, predictions, the place of bundles.

Rows that prove themselves are taken again, and rows in the making are waited for. Without a journal
a study leaves nothing behind.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

from cacheclip import results
from cacheclip.answers import (
    Predictions,
    Rooted,
    curve,
    has_logits,
    intact,
    keep_ids,
    write_predictions,
)
from cacheclip.draws import keep_draw
from cacheclip.errors import argument, counted
from cacheclip.files.disk import digest
from cacheclip.files.locks import LockedError, lock
from cacheclip.results import Row
from cacheclip.study.data import SetData
from cacheclip.study.run import Outcome


class Journal:
    """One results folder, which other comparisons may write to at the same time."""

    def __init__(
        self, home: Rooted, tested: Sequence[SetData], *, keep_logits: bool = False
    ) -> None:
        """A results folder.

        Args:
            home: where it is.
            tested: what is tested on; the first is what is learned from.
            keep_logits: whether rows without all logits are none.
        """
        self._root = home.root
        self._dataset = tested[0].features.dataset
        self._tested = {data.test_id: data for data in tested}
        self._keep_logits = keep_logits
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
        found = results.rows(self._root, row_ids, notice)
        for test_id in dict.fromkeys(row.test_id for row in found.values()):
            if keep_ids(self._root, self._tested[test_id].test_ids, proved=True):
                notice(f"tests/{test_id}.json was damaged and is made anew")
        kept = {
            row_id: self._with_curve(row)
            for row_id, row in found.items()
            if intact(self._root, row_id, row.predictions, row.top1_test)
        }
        if self._keep_logits:
            lacking = {row_id for row_id in kept if not has_logits(self._root, row_id)}
            found = {row_id: row for row_id, row in found.items() if row_id not in lacking}
            kept = {row_id: row for row_id, row in kept.items() if row_id not in lacking}
            if lacking:
                notice(f"{counted(len(lacking), 'row')} made again: without their logits")
        if lost := len(found) - len(kept):
            rows, their = ("1 row is", "its") if lost == 1 else (f"{lost} rows are", "their")
            notice(f"{rows} made again: {their} predictions are not there or are damaged")
        return kept

    def younger(self, row_ids: Collection[str]) -> dict[str, Row]:
        """Such rows, where another process has written to the log since it was looked at."""
        return {} if self._now() == self._size else self.rows(row_ids, lambda text: None)

    def add(self, rows: Collection[Row]) -> None:
        """Append rows; their curves lie beside what they answered, if they answered anything."""
        lines = [replace(row, curve=None) if row.predictions else row for row in rows]
        self._size += results.append(self._root, lines)

    def keep(self, outcome: Outcome, row: Row, notice: Callable[[str], None], *, own: bool) -> Row:
        """Publish the draw, and the predictions that `answers.predictions` reads.

        Args:
            outcome: what the row tells of.
            row: it has run.
            notice: called with a line for the user where something is damaged.
            own: whether it is tested on the classes that it learned from, as held-out pictures are.

        Returns:
            The row with the digest of the predictions.
        """
        draw, scores = outcome.draw, outcome.scores
        if draw and keep_draw(self._root / "draws", draw, self._dataset):
            notice(f"draws/{draw.draw_id}.json was damaged and is made anew")
        if scores is None:
            return row
        calibration = outcome.calibration
        answers = Predictions(
            **vars(scores.answers[0]),
            ids=self._tested[row.test_id].test_ids,
            choice=outcome.choice if own else None,
            calibration=calibration.answered if calibration and own else None,
        )
        kept = write_predictions(self._root, row.row_id, answers, row.curve or (), row.n_val)
        return replace(row, predictions=kept)

    def _with_curve(self, row: Row) -> Row:
        """The row with the curve that lies beside what it answered; an old row has its own."""
        if row.curve is not None or not row.n_val:
            return row
        return replace(row, curve=curve(self._root, row.row_id))

    def bundle(self, name: str) -> Path:
        """Where the bundle of that name goes."""
        return self._root / "bundles" / f"{name}.safetensors"

    def _now(self) -> int:
        path = self._root / results.LOG
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
        path = self._root / "locks" / f"{digest(like)[:16]}.lock"
        with ExitStack() as held:
            ours = True
            try:
                held.enter_context(lock(path))
            except LockedError as error:
                ours = notice is not None
                if notice is not None:
                    at = argument("shots", row.shots)
                    notice(f"{row.method} at {at}: {error.what}; waiting for its rows")
                    held.enter_context(lock(path, wait=inf))
            yield ours
