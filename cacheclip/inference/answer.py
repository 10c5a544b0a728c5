"""What a bundle says of one picture, how that is printed, and how often it agrees with a label."""

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cacheclip.classifier import Top
from cacheclip.metrics import wilson

PROBABILITY, SCORE = "probability", "score"
NAMED = 8  # classes in a line before it says how many more there are


@dataclass(frozen=True)
class Answer:
    """What a picture shows, or why it could not be read.

    Attributes:
        image: its path as it was found; the id of its row, where features stand for it.
        top: classes by falling probability, with that or with their scores; empty on an error.
        error: why there is no answer.
        label: the class that it has: of the folder that has a class's name, or of its row.
        split: of a data set, None for a picture that is of none.
    """

    image: str
    top: Top
    error: str | None = None
    label: str | None = None
    split: str | None = None

    def as_json(self, value: str = PROBABILITY, *, labelled: bool = False) -> dict[str, Any]:
        """The answer as `--json` prints it; a picture without an answer has the same fields.

        Args:
            value: what stands beside the classes, "probability" or "score".
            labelled: whether there is a label to name, of this picture or of another.
        """
        best = self.top[0] if self.top else (None, None)
        ranked = [{"class": name, value: number} for name, number in self.top]
        fields = {"image": self.image, "class": best[0], value: best[1]}
        label = {"label": self.label} if labelled else {}
        split = {} if self.split is None else {"split": self.split}
        return fields | {"top": ranked, "error": self.error} | label | split


def label_of(folders: Sequence[str], classnames: Sequence[str]) -> str | None:
    """The class that a picture's folders name, the outermost that does; None where none does.

    Args:
        folders: from the outermost to the picture's own.
        classnames: a name may be a path of folders, "tools/saw".
    """
    names = {unicodedata.normalize("NFC", name): name for name in classnames}
    parts = [unicodedata.normalize("NFC", folder) for folder in folders]
    for first in range(len(parts)):
        for last in range(len(parts), first, -1):
            name = names.get("/".join(parts[first:last]))
            if name is not None:
                return name
    return None


class Tally:
    """How the answers agree with the labels, counted as they come.

    Attributes:
        answers: how many there are.
        failed: how many of them are errors.
    """

    def __init__(self, classnames: Sequence[str]) -> None:
        self.answers = 0
        self.failed = 0
        self._known = frozenset(classnames)
        self._pictures: Counter[str] = Counter()
        self._right: Counter[str] = Counter()
        self._strange = 0  # labels that are no class of the bundle
        self._unlabelled = 0

    def add(self, answer: Answer) -> None:
        """Count one more."""
        label = answer.label
        self.answers += 1
        self.failed += answer.error is not None
        if label is None:
            self._unlabelled += 1
        elif label not in self._known:
            self._strange += 1
        elif answer.top:
            self._pictures[label] += 1
            self._right[label] += answer.top[0][0] == label

    def lines(self, labelled: str, unlabelled: str, caution: str) -> Iterator[str]:
        """Lines on the accuracy; none where no answer has a label.

        Args:
            labelled: what those are that have a label, "rows of split test".
            unlabelled: what those are that have none, "without a label".
            caution: what the accuracy is not, where there is such a thing.
        """
        n = self._pictures.total()
        if not n:
            return
        share = self._right.total() / n
        low, high = wilson(share, n)
        strange = "of classes that the bundle does not know"
        yield (
            f"accuracy {100 * share:.1f} % of {n:,} {labelled}, 95 % "
            f"interval {100 * low:.1f} to {100 * high:.1f}"
            + (f"; {self._unlabelled:,} {unlabelled}" if self._unlabelled else "")
            + (f"; {self._strange:,} {strange}" if self._strange else "")
            + (f"; {caution}" if caution else "")
        )
        if len(self._pictures) > 1:
            recall = {name: self._right[name] / count for name, count in self._pictures.items()}
            worst = sorted(recall, key=recall.__getitem__)
            listed = [f"{name} {self._right[name]} of {self._pictures[name]}" for name in worst]
            more = len(worst) - NAMED
            rest = f", {more} more" if more > 0 else ""
            yield f"recall, least first: {', '.join(listed[:NAMED])}{rest}"


def table_head(value: str = PROBABILITY) -> list[str]:
    """The columns of the table for people."""
    return ["class", value, "image", "then"]


def table_rows(answers: Sequence[Answer]) -> list[list[str]]:
    """Answers as people read them: what was found first, and where."""
    cells = []
    for answer in answers:
        if answer.top:
            (name, number), *rest = answer.top
            then = ", ".join(f"{other} {p:.3f}" for other, p in rest)
            cells.append([name, f"{number:.3f}", answer.image, then])
        else:
            cells.append(["-", "-", answer.image, answer.error or ""])
    return cells


def csv_head(ranks: int, value: str = PROBABILITY, *, splits: bool = False) -> str:
    """The head of a table with commas.

    Args:
        ranks: how many classes an answer names.
        value: what stands beside them.
        splits: whether the answers are for rows of splits.
    """
    behind = [name for k in range(2, 1 + ranks) for name in (f"class_{k}", f"{value}_{k}")]
    last = ["split"] if splits else []
    return _with_commas([["image", "class", value, *behind, "label", "error", *last]])


def csv_rows(answers: Sequence[Answer], ranks: int, *, splits: bool = False) -> str:
    """Answers as lines of that table."""
    lines = []
    for answer in answers:
        ranked = [part for pair in answer.top for part in pair]
        empty = [""] * (2 * ranks - len(ranked))
        last = [answer.split] if splits else []
        line = [answer.image, *ranked, *empty, answer.label or "", answer.error or "", *last]
        lines.append(line)
    return _with_commas(lines)


def _with_commas(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def json_rows(answers: Sequence[Answer], value: str = PROBABILITY, *, labelled: bool) -> str:
    """Answers as entries of a list in JSON, one a line, without the brackets around all."""
    told = [answer.as_json(value, labelled=labelled) for answer in answers]
    # Encoded together, a third of the time. Within a text the quotes would be escaped.
    return json.dumps(told, allow_nan=False)[1:-1].replace('}, {"image": ', '},\n{"image": ')
