"""Every store of a data set, finished or not, and how it stands to the labels and the log."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.store.features import VIEWS
from cacheclip.store.folders import is_store, store_folders
from cacheclip.store.header import Header, header_there
from cacheclip.store.home import Home, Labels
from cacheclip.store.key import set_digest_of
from cacheclip.store.plan import read_plan
from cacheclip.store.schema import DONE_FILE, DONE_FOLDER, SENTENCES


@dataclass(frozen=True)
class Found:
    """One store.

    Attributes:
        path: its folder.
        header: its key.json; None where that cannot be read.
        done: finished shards.
        total: shards of its plan.
        problem: why its key or its plan cannot be read.
    """

    path: Path
    header: Header | None
    done: int
    total: int
    problem: StoreError | None = None

    @property
    def key(self) -> Mapping[str, Any]:
        """What decides it; empty where key.json cannot be read."""
        return {} if self.header is None else self.header.key

    @property
    def split(self) -> str:
        """Its split; `-` for what belongs to none."""
        return self.path.parent.name

    @property
    def layer(self) -> str:
        """`image`, `pre-projection`, `text`, or one of `PARTS`."""
        return self.path.name.rpartition("-")[0]

    @property
    def views(self) -> int | None:
        """How many views of each picture it holds; None of all other stores."""
        views = self.key.get("views")
        return None if views is None else int(views["n"])

    @property
    def kind(self) -> str:
        """The layer, or `LAYER/views`, or `sentences` for the text that is no prompts."""
        if str(self.key.get("text", {}).get("template", "")).startswith(SENTENCES):
            return "sentences"
        return self.layer if self.views is None else self.layer + VIEWS

    @property
    def complete(self) -> bool:
        """Whether it says that it is complete."""
        return (self.path / DONE_FILE).exists()

    @property
    def created(self) -> str:
        """When it was begun, UTC."""
        return "" if self.header is None else str(self.header.info.get("created", ""))

    @property
    def set_digest(self) -> str | None:
        """The feature set that it belongs to; None for text and parts of an encoder."""
        return set_digest_of(self.key) if "data" in self.key else None

    @cached_property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.lstat().st_size for file in self.path.rglob("*") if not file.is_dir())

    def is_of(self, labels: Labels | None) -> bool:
        """Whether its pictures are those that the labels are for."""
        own = None if labels is None else labels.splits.get(self.split)
        data = self.key.get("data", {})
        samples = (data.get("samples_sha256"), data.get("files_sha256"))
        return own is not None and samples == (own.ids_sha256, own.files_sha256)

    def speaks_for(self, image: "Found", labels: Labels | None) -> bool:
        """Whether this text, or part, goes with that store of pictures and the labels' names."""
        named = labels is None or (
            self.key.get("text", {}).get("classnames_sha256", labels.classnames_sha256)
            == labels.classnames_sha256
        )
        return named and all(self.key[part] == image.key[part] for part in ("encoder", "compute"))


def scan(home: Home, dataset: str) -> list[Found]:
    """The stores of a data set, by split and layer; other folders are left out.

    Raises:
        StoreError: a folder cannot be looked into.
    """
    paths = store_folders(home.dataset_folder(dataset))
    return [_found(home, path) for path in paths if is_store(path)]


def scanned(home: Home, dataset: str) -> list[Found]:
    """As `scan`; none of a data set that cannot be looked through."""
    try:
        return scan(home, dataset)
    except StoreError:
        return []


def labels_or_none(home: Home, dataset: str) -> Labels | None:
    """The labels of a data set, if they are there and can be read."""
    try:
        return home.labels(dataset)
    except StoreError:
        return None


def last_times(home: Home, dataset: str) -> dict[str, str]:
    """When each feature set of a data set was extracted last: set digest -> UTC."""
    lines = [line for line in home.extractions() if line["dataset"] == dataset]
    return {line["set"]: str(line.get("time", "")) for line in lines}


def texts_of(texts: list[Found], images: list[Found], labels: Labels | None) -> Iterator[Found]:
    """The stores of text and parts that go with any of these stores of pictures."""
    for text in texts:
        if text.header and any(text.speaks_for(image, labels) for image in images if image.header):
            yield text


def _found(home: Home, path: Path) -> Found:
    try:
        header = header_there(path, home.option, "")
    except StoreError as error:
        return Found(path, None, 0, 0, error)
    if header is None:
        return Found(path, None, 0, 0)
    if "data" not in header.key:
        return Found(path, header, int((path / DONE_FILE).exists()), 1)
    done = len(list((path / DONE_FOLDER).glob("*.json")))
    problem = None
    try:
        plan = read_plan(path, header.key, header.extract_command)
        total = len(plan.shards(header.key["data"]["samples"]))
    except FileNotFoundError:
        total = max(done, 1)
    except StoreError as error:
        problem, total = error, max(done, 1)
    return Found(path, header, done, total, problem)
