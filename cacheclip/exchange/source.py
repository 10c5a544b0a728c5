"""The arrays that an import may have, and how a fault of one is said."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError

REQUIRED = {
    "features": "[N, D], floats, raw or unit rows",
    "labels": "[N], whole numbers from 0 to C - 1, or class names",
    "split": "[N], texts, each train, val or test",
}
OPTIONAL = {
    "text_features": "[C, D], floats, or [C, T, D] of T prompts a class",
    "sentence_features": "[C, S, D], floats, of S sentences a class; zeros where one has fewer",
    "logit_scale": "one number, the exp of CLIP's parameter: 100 for OpenAI's CLIP",
    "classnames": "[C], texts, one a class in label order",
    "sample_ids": "[N], texts, each once in its split",
}
KNOWN = {**REQUIRED, **OPTIONAL}
DRAW = re.compile(r"draw_([0-9]{1,18})_([0-9]{1,18})")  # seed and shots
DRAWS = "[n], rows of the file, all of split train, at least one of every class"

# Every fifth row in label order for test: any class of two rows or more keeps one for train.
CUT = 'split = np.where(np.argsort(np.argsort(labels, kind="stable")) % 5 == 0, "test", "train")'
SHOWN = 5

Given = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """Where the arrays come from.

    A fix is a line of Python over the names of the arrays, to be run before they are saved.

    Attributes:
        file: the file, for messages.
        command: the command line that imports it.
        rows: names of the arrays that have a row for each row of the features.
        before: Python that makes the arrays out of those in the file, where these are others.
    """

    file: str
    command: str
    rows: tuple[str, ...] = ("features", "labels", "split")
    before: str = ""

    def fault(self, name: str, what: str, fix: str | None = None) -> InputError:
        """The error of one array; without a fix it says what the array should be."""
        wanted = f"{name} {KNOWN.get(name, DRAWS)}"
        return InputError(
            f"{name}: {what}", where=self.file, fix=wanted if fix is None else self.before + fix
        )

    def expect(
        self, name: str, given: NDArray[Any], *, fits: bool, count: int | None = None
    ) -> None:
        """Refuse an array of another shape."""
        if not fits:
            rows = "" if count is None else f", and features have {count:,} rows"
            raise self.fault(name, f"its shape is {list(given.shape)}{rows}")

    def texts(self, name: str, given: NDArray[Any], count: int | None) -> list[str]:
        """An array of texts as a list, each of one line."""
        if given.dtype.kind not in "US":
            fix = f"{name} = {name}.astype(str)"
            raise self.fault(name, f"{given.dtype} and not texts", fix)
        fits = given.ndim == 1 and len(given) > 0 and count in (None, len(given))
        self.expect(name, given, fits=fits, count=count)
        try:
            decoded = np.char.decode(given) if given.dtype.kind == "S" else given
            texts: list[str] = decoded.tolist()
            "".join(texts).encode()
        except UnicodeError:
            fix = f'{name} = np.char.decode({name}, "utf-8", "replace")'
            raise self.fault(name, "not texts in UTF-8", fix) from None
        return texts

    def keep(self, condition: str) -> str:
        """Python that leaves out the rows which do not meet a condition."""
        kept = ", ".join(f"{name}[keep]" for name in self.rows)
        return f"keep = {condition}; {', '.join(self.rows)} = {kept}"


def flat(given: NDArray[Any], count: int) -> NDArray[Any]:
    """An array [N, 1] or [1, N] as [N]; any other as it is."""
    return given.reshape(-1) if given.shape in ((count, 1), (1, count)) else given


def some(names: Sequence[object] | NDArray[Any]) -> str:
    """The first few of many, for a message."""
    return ", ".join(str(name) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
