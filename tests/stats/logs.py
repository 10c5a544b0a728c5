"""A results log with the accuracies that a test asks for."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip import results
from cacheclip.answers import Predictions, write_predictions
from cacheclip.results import Row
from tests.makers import ROW


def row(**changes: Any) -> Row:
    """A row, tested on its own data set; its settings alone compete for it."""
    fields = ROW | {"eval_dataset": changes.get("dataset", ROW["dataset"])} | changes
    return Row(**(fields | {"candidates": repr(fields["hparams"])}))


def zero_shot(**changes: Any) -> Row:
    """The row of what draws nothing."""
    return row(**({"method": "zero-shot", "shots": 0, "seed": None} | changes))


def log(root: Path, rows: Iterable[Row]) -> Path:
    """The folder of a log of these rows."""
    results.append(root, list(rows))
    return root


def answered(root: Path, made: Row, predicted: NDArray[Any], label: NDArray[Any]) -> Row:
    """Log the row with what it answered; its accuracy follows."""
    random = np.random.default_rng(0)
    n = len(label)
    answers = Predictions(
        predicted=predicted.astype(np.uint16),
        label=label.astype(np.uint16),
        true_log_p=-random.random(n).astype(np.float16),
        top_p=random.random(n).astype(np.float16),
        true_rank=(predicted != label).astype(np.uint16),
        top=predicted[:, None].astype(np.uint16),
        top_log_p=-random.random((n, 1)).astype(np.float16),
        ids=[f"{k}.png" for k in range(n)],
    )
    whole = row(**{**made.__dict__, "top1_test": float((predicted == label).mean()), "n_test": n})
    write_predictions(root, whole.row_id, answers)
    log(root, [whole])
    return whole
