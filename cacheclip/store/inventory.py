"""What lies in a home folder, finished or not, for people to look at."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cacheclip.disk import read_json
from cacheclip.errors import StoreError
from cacheclip.store.home import Home
from cacheclip.store.key import Header, read_header
from cacheclip.store.schema import DONE_FILE, DONE_FOLDER, KEY_FILE, PLAN_FILE, TEXT


@dataclass(frozen=True)
class Entry:
    """One store.

    Attributes:
        dataset: id of the data set.
        split: its split; `-` for text.
        layer: `image`, `pre-projection` or `text`.
        model: the encoder's name.
        pretrained: its weights.
        dtype: what it was computed in.
        rows: pictures, or prompts' classes.
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
    stores = home.root / "stores"
    entries = []
    for file in sorted(stores.rglob(KEY_FILE)):
        try:
            entries.append(_entry(stores, file.parent, read_header(file.parent)))
        except StoreError:
            continue
    return entries


def _entry(stores: Path, path: Path, header: Header) -> Entry:
    key = header.key
    place = path.relative_to(stores)
    text = key["layer"] == TEXT
    plan = read_json(path / PLAN_FILE) if (path / PLAN_FILE).exists() else {"shards": [None]}
    finished = (path / DONE_FILE).exists() if text else len([*(path / DONE_FOLDER).glob("*.json")])
    return Entry(
        dataset=place.parent.parent.as_posix(),
        split=place.parent.name,
        layer=key["layer"],
        model=key["encoder"]["name"],
        pretrained=key["encoder"]["pretrained"],
        dtype=key["compute"]["dtype"],
        rows=key["text"]["classes"] if text else key["data"]["samples"],
        shards_done=int(finished),
        shards=len(plan["shards"]),
        bytes=sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
        path=str(path),
    )
