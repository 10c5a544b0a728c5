"""The pictures of one split, as Python code is handed them; the test labels are sealed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import ProtocolError
from cacheclip.store.source import Layer


@dataclass(frozen=True)
class Split:
    """The pictures of one split that have features.

    Attributes:
        name: train, val or test.
        ids: [n] sample ids.
    """

    name: str
    ids: list[str]
    _layer: Layer
    _rows: list[int]
    _labels: NDArray[Any] | None  # None where they are sealed

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self):,} rows>"

    @cached_property
    def X(self) -> NDArray[np.float32]:  # noqa: N802
        """[n, D] raw features."""
        return self._layer.read_rows(self._rows).features

    @property
    def y(self) -> NDArray[Any]:
        """[n] labels, as they were given: names, or numbers; -1 or "" where there is none.

        Raises:
            ProtocolError: these are the test labels.
        """
        if self._labels is None:
            raise ProtocolError(
                "test labels are sealed, so that nothing can be chosen by them",
                where=f"split {self.name}",
                fix="head.score(data) or cacheclip.compare(...), which open them last",
            )
        return self._labels
