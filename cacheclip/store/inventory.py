"""What lies in a home folder, finished or not, for people to look at."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cacheclip.store.home import Home
from cacheclip.store.scan import Found, scanned


@dataclass(frozen=True)
class Entry:
    """One store.

    Attributes:
        dataset: id of the data set.
        split: its split; `-` for what belongs to none.
        layer: `image`, `image/views` and so on, `text`, or parts of an encoder.
        model: the encoder's name.
        pretrained: its weights.
        dtype: what it was computed in.
        rows: pictures, or the classes of texts, or the arrays of an encoder.
        shards_done: shards that are there.
        shards: shards in all.
        bytes: size on disk.
        path: its folder.
    """

    dataset: str
    split: str
    layer: str
    model: str
    pretrained: str
    dtype: str
    rows: int
    shards_done: int
    shards: int
    bytes: int
    path: str

    def as_json(self) -> dict[str, Any]:
        """The entry as `--json` prints it."""
        return asdict(self)

    def as_cells(self) -> list[str]:
        """The entry as the table prints it."""
        shards = f"{self.shards_done}/{self.shards}"
        encoder = f"{self.model} {self.pretrained}"
        size = f"{self.bytes / 1e6:.1f}"
        return [self.dataset, self.split, self.layer, encoder, str(self.rows), shards, size]


def inventory(home: Home) -> list[Entry]:
    """All stores of a home, by data set, split and layer; other folders are left out."""
    return [
        _entry(dataset, store)
        for dataset in home.datasets()
        for store in scanned(home, dataset)
        if store.header is not None
    ]


def _entry(dataset: str, store: Found) -> Entry:
    key = store.key
    return Entry(
        dataset=dataset,
        split=store.split,
        layer=store.kind,
        model=key["encoder"]["name"],
        pretrained=key["encoder"]["pretrained"],
        dtype=key["compute"]["dtype"],
        rows=_rows(key),
        shards_done=store.done,
        shards=store.total,
        bytes=store.bytes,
        path=str(store.path),
    )


def _rows(key: Mapping[str, Any]) -> int:
    if "data" in key:
        return int(key["data"]["samples"])
    return int(key["text"]["classes"]) if "text" in key else len(key["parts"])
