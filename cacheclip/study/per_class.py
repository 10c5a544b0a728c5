"""Where a row is wrong: recall class by class, the confusions, the pictures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cacheclip.answers import Predictions
from cacheclip.metrics import per_class, wilson
from cacheclip.study.table import Table, percent

SHOWN = 10  # confusions and pictures in a table

Report = dict[str, list[dict[str, Any]]]


def report(predictions: Predictions, classnames: Sequence[str]) -> Report:
    """All of it, as `--json` prints it.

    Returns:
        `per_class`: each class's n, right, recall and its 95 % interval, in label order.
        `confusions`: true and predicted class with how often, the most frequent first.
        `wrong`: the wrong pictures, the most certain first.
    """
    label, predicted = predictions.label, predictions.predicted
    right = predicted == label
    counts = per_class(right, label, len(classnames)).tolist()
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-predictions.top_p[wrong].astype(np.float32), kind="stable")].tolist()
    pairs = Counter((int(label[k]), int(predicted[k])) for k in wrong).items()
    return {
        "per_class": [
            {
                "class": name,
                "n": n,
                "right": hits,
                "recall": hits / n if n else None,
                "ci95": list(wilson(hits / n, n)) if n else None,
            }
            for name, (n, hits) in zip(classnames, counts, strict=True)
        ],
        "confusions": [
            {"true": classnames[true], "predicted": classnames[other], "count": count}
            for (true, other), count in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        ],
        "wrong": [
            {
                "id": predictions.ids[k],
                "true": classnames[label[k]],
                "predicted": classnames[predicted[k]],
                "probability": float(predictions.top_p[k]),
                "true_rank": int(predictions.true_rank[k]),
            }
            for k in wrong
        ],
    }


def tables(found: Report) -> Iterator[tuple[str, Table]]:
    """The same as tables with their titles: classes by rising recall, the first of the others."""
    ordered = sorted(found["per_class"], key=lambda c: (c["recall"] is None, c["recall"]))
    recalls = [
        [c["class"], percent(c["recall"]), _interval(c["ci95"]), str(c["n"])] for c in ordered
    ]
    yield "recall of each class, lowest first", (["class", "recall %", "95 %", "n"], recalls)
    confused = [[c["true"], c["predicted"], str(c["count"])] for c in found["confusions"][:SHOWN]]
    yield (
        f"confusions, most frequent first ({_of(found['confusions'])})",
        (["true", "predicted", "count"], confused),
    )
    pictures = [
        [w["id"], w["true"], w["predicted"], f"{w['probability']:.3f}"]
        for w in found["wrong"][:SHOWN]
    ]
    yield (
        f"wrong pictures, most certain first ({_of(found['wrong'])})",
        (["picture", "true", "predicted", "probability"], pictures),
    )


def _of(entries: Sequence[object]) -> str:
    shown = min(SHOWN, len(entries))
    return f"{shown} of {len(entries)}; --json has all" if shown < len(entries) else f"all {shown}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f}"
