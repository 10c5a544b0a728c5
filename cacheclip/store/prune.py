"""What nothing in a home refers to any more."""

import time
from collections.abc import Iterator
from pathlib import Path

from cacheclip.errors import StoreError
from cacheclip.files.disk import leftovers, read_json
from cacheclip.store.home import Home
from cacheclip.store.remove import Part
from cacheclip.store.scan import Found, labels_or_none, last_times, scanned, texts_of
from cacheclip.store.schema import PARTS, STAGING_FOLDER, TEXT

STALE = 3600.0  # seconds after which nobody is still writing a file that no lock guards


def unused(home: Home) -> list[Part]:
    """What `prune` takes away.

    - Stores of earlier pictures, complete or not, where the same encoder's store of today's
      pictures is complete and was asked for after they were begun.
    - Text, and parts of an encoder, that go with none of the data set's encoders, or have other
      class names.
    - Files that a killed writer left half-written.
    - Notes of extractions whose stores are gone.

    A data set whose extraction never ended is left alone: the same command goes on with it.
    """
    parts: list[Part] = []
    for dataset in home.datasets():
        parts += _of_dataset(home, dataset)
    gone = {part.path for part in parts if part.path == part.store}
    return [*parts, *_half_written(home), *_notes(home, gone)]


def _of_dataset(home: Home, dataset: str) -> Iterator[Part]:
    labels, times = labels_or_none(home, dataset), last_times(home, dataset)
    stores = scanned(home, dataset)
    texts = [store for store in stores if store.layer in (TEXT, *PARTS) and store.header]
    images = [store for store in stores if store.set_digest is not None]
    current = [store for store in images if store.is_of(labels)]
    whole = {(s.set_digest, s.split, s.kind) for s in current if s.complete}
    old: list[Found] = []
    for store in images:
        extracted = times.get(store.set_digest or "", "")
        replaced = (store.set_digest, store.split, store.kind) in whole
        if store not in current and replaced and store.created < extracted:
            old.append(store)
            yield Part(store.path, "earlier pictures", store.bytes, dataset, store.path)
    kept = [store for store in images if store not in old]
    if labels is not None:
        spoken = list(texts_of(texts, kept, labels))
        newest = max(times.values(), default="")
        for text in texts:
            if text not in spoken and text.created < newest:
                what = "text" if text.layer == TEXT else "encoder"
                yield Part(text.path, f"{what} of no set", text.bytes, dataset, text.path)
                old.append(text)
    for store in stores:
        if store in old:
            continue
        for file in leftovers(store.path / STAGING_FOLDER):
            yield Part(file, "half-written", file.lstat().st_size, dataset, store.path)


def _half_written(home: Home) -> Iterator[Part]:
    """Such files outside stores, where no lock tells whether their writer lives."""
    names = ("memo", "predictions", "tests", "draws", "bundles")
    folders = [home.root, *(home.root / name for name in names)]
    folders += [home.dataset_folder(dataset) for dataset in home.datasets()]
    for folder in folders:
        for file in leftovers(folder):
            info = file.lstat()
            if time.time() - info.st_mtime > STALE:
                yield Part(file, "half-written", info.st_size)


def _notes(home: Home, gone: set[Path]) -> Iterator[Part]:
    """Notes of extractions that name stores which are not there, or go now."""
    for file in sorted((home.root / "memo").glob("*.json")):
        try:
            note = read_json(file)
            stores = [*note["stores"], *note["parts"], note["text"], note.get("sentences")]
            places = [home.root / place for place in stores if place is not None]
        except (OSError, StoreError, KeyError, TypeError):
            places = []
        if not places or any(place in gone or not place.exists() for place in places):
            yield Part(file, "note of stores that are gone", file.lstat().st_size)
