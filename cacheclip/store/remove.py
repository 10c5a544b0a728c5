"""Taking things out of a home, so that whatever is left at any moment is not believed whole."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from cacheclip.errors import StoreError, UsageError
from cacheclip.files.disk import leftovers
from cacheclip.files.locks import LockedError, lock
from cacheclip.files.refusals import refusals
from cacheclip.store.find import is_encoder, matching
from cacheclip.store.given import DRAWS_FILE
from cacheclip.store.home import RECORDS_LOCK, Home
from cacheclip.store.key import encoder_options
from cacheclip.store.labels import LABELS_FILE
from cacheclip.store.regions import REGIONS_FILE
from cacheclip.store.scan import scan
from cacheclip.store.schema import (
    DONE_FILE,
    DONE_FOLDER,
    IDS_FILE,
    KEY_FILE,
    LOCK_FILE,
    PARTS,
    PARTS_FILE,
    PLAN_FILE,
    STAGING_FOLDER,
    TEXT,
    TEXT_FILE,
)

_KINDS = {TEXT: "text", **dict.fromkeys(PARTS, "encoder")}


@dataclass(frozen=True)
class Part:
    """Something that goes as a whole.

    Attributes:
        path: a store's folder, or one file.
        why: what it is, for people.
        bytes: its size.
        dataset: id of its data set, None where it belongs to none.
        store: the store whose lock guards it, if any.
    """

    path: Path
    why: str
    bytes: int
    dataset: str | None = None
    store: Path | None = None

    def as_json(self) -> dict[str, object]:
        """The part as `--json` prints it."""
        return {
            "path": str(self.path),
            "why": self.why,
            "bytes": self.bytes,
            "dataset": self.dataset,
        }

    def as_cells(self, root: Path) -> list[str]:
        """The part as the table prints it."""
        return [self.path.relative_to(root).as_posix(), self.why, f"{self.bytes / 1e6:.1f}"]


def parts_of(
    home: Home, name: str, model: str | None = None, pretrained: str | None = None
) -> list[Part]:
    """What `rm` takes away: all of a data set, or what one encoder made of it.

    Args:
        home: where it lies.
        name: an id, the folder that was extracted, or the last part of an id.
        model: name of the encoder, or NAME@WEIGHTS; None for all.
        pretrained: its weights.

    Raises:
        UsageError: the name may mean several data sets.
        StoreError: there is no such data set, or nothing of that encoder.
    """
    ids = home.datasets()
    named = matching(name, ids, home.extractions())
    if len(named) > 1:
        raise UsageError(
            f"{name!r} may mean {' or '.join(named)}",
            where=str(home.root),
            fix=" or ".join(f"cacheclip rm {shlex.quote(own)}{home.option}" for own in named),
        )
    if not named:
        there = ", ".join(ids)
        raise StoreError(
            f"there are no features of {name}",
            where=f"{home.root} ({f'has {there}' if there else 'nothing is there'})",
            fix=f"cacheclip ls{home.option}",
        )
    (dataset,) = named
    model, pretrained = encoder_options(model, pretrained)
    stores = scan(home, dataset)
    every = model is None and pretrained is None
    chosen = [
        store
        for store in stores
        if every or (store.header and is_encoder(store.key["encoder"], model, pretrained))
    ]
    if not chosen and not every:
        encoders = [store.key["encoder"] for store in stores if store.header]
        names = {f"{encoder['name']} {encoder['pretrained']}" for encoder in encoders}
        raise StoreError(
            f"there are no features of {dataset} by the encoder asked for",
            where=f"{home.root} (has {', '.join(sorted(names))})",
            fix=f"cacheclip ls{home.option}",
        )
    parts = [
        Part(s.path, _KINDS.get(s.layer, "features"), s.bytes, dataset, s.path) for s in chosen
    ]
    if len(chosen) < len(stores):
        return parts
    folder = home.dataset_folder(dataset)
    records = [(file, "labels") for file in sorted(folder.glob(f"{LABELS_FILE}*"))]
    records += [(file, "draws") for file in folder.glob(DRAWS_FILE)]
    records += [(file, "boxes") for file in folder.glob(REGIONS_FILE)]
    return [*parts, *(Part(file, why, file.lstat().st_size, dataset) for file, why in records)]


def remove(home: Home, parts: Sequence[Part]) -> tuple[list[Part], list[str]]:
    """Take parts away; what somebody is writing stays, and all else of its data set with it.

    First every store says that it is not complete any more; then its files go, and key.json, by
    which a second try would find it, goes last. Only files of ours are deleted, and no link is
    followed.

    Returns:
        What is gone, and a line for each store that stays because somebody holds it.

    Raises:
        StoreError: the disk refuses.
    """
    guards = {part.store / LOCK_FILE: part.dataset for part in parts if part.store}
    records = {
        home.dataset_folder(part.dataset) / RECORDS_LOCK: part.dataset
        for part in parts
        if part.dataset and not part.store
    }
    with refusals(home.root), ExitStack() as held:
        busy: dict[str | None, list[str]] = {}
        for guard, dataset in (guards | records).items():
            try:
                held.enter_context(lock(guard))
            except LockedError as error:
                place = guard.parent.relative_to(home.root)
                busy.setdefault(dataset, []).append(f"left alone: {place}, {error.what}")
        free = [part for part in parts if part.dataset is None or part.dataset not in busy]
        for part in free:
            if part.path == part.store:
                (part.path / DONE_FILE).unlink(missing_ok=True)
        for part in free:
            if part.path == part.store:
                for file in _files(part.path):
                    file.unlink(missing_ok=True)
            else:
                part.path.unlink(missing_ok=True)
        for guard, dataset in records.items():
            if dataset not in busy:
                guard.unlink(missing_ok=True)
        for part in free:
            if part.path == part.store:
                (part.path / LOCK_FILE).unlink(missing_ok=True)
                _tidy(part.path, up_to=home.root)
    return free, [line for lines in busy.values() for line in lines]


def _files(store: Path) -> Iterator[Path]:
    """The files of a store in the order in which they go, all but its lock."""
    if not (store / DONE_FOLDER).is_symlink():
        yield from (store / DONE_FOLDER).glob("*.json")
    yield from leftovers(store / STAGING_FOLDER)
    yield from store.glob("shard-*.h5")
    yield from (store / name for name in (TEXT_FILE, PARTS_FILE, PLAN_FILE, IDS_FILE, KEY_FILE))


def _tidy(store: Path, up_to: Path) -> None:
    """Remove the folders that are empty now; what is not ours keeps its folder."""
    above = [path for path in store.parents if path != up_to and path.is_relative_to(up_to)]
    for folder in (store / DONE_FOLDER, store / STAGING_FOLDER, store, *above):
        with suppress(OSError):
            folder.rmdir()
