"""The home folder: where stores, labels and the log of extractions lie, and what stage two finds.

    <home>/stores/<data set>/labels.json
    <home>/stores/<data set>/<split>/<layer>-<key12>/
    <home>/stores/<data set>/-/text-<key12>/
    <home>/stores/<data set>/-/<parts>-<key12>/
    <home>/extractions.jsonl
    <home>/memo/<digest>.json

Nothing in it holds the home's own path, so it may be moved.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

from cacheclip.errors import InputError, StoreError
from cacheclip.files.disk import (
    DamagedError,
    append_line,
    canonical_json,
    publish_json,
    read_json,
    repair,
    seal_agrees,
    sealed,
    unsealed,
)
from cacheclip.files.locks import lock
from cacheclip.files.log import lines_left_out
from cacheclip.files.places import try_writing
from cacheclip.files.refusals import refusals
from cacheclip.files.regular import expanded
from cacheclip.store.begun import begun, unread
from cacheclip.store.extractions import encoder_of, read_extractions
from cacheclip.store.features import NO_SPLIT, FeatureSet, is_of_boxes
from cacheclip.store.find import Log, choose, is_encoder, matching, missing
from cacheclip.store.folders import dataset_folders, store_folders, there
from cacheclip.store.gather import Candidate, candidates
from cacheclip.store.header import made_anew
from cacheclip.store.key import Key, encoder_options, extract_command, store_name
from cacheclip.store.labels import LABELS_FILE, Labels, SplitLabels, read_labels, write_labels
from cacheclip.store.reader import Store
from cacheclip.store.schema import KEY_FILE, TEXT

__all__ = ["FeatureSet", "Home", "Labels", "SplitLabels"]

RECORDS_LOCK = "lock"  # in the folder of a data set: guards labels and draws
RECORDS_WAIT = 600.0  # seconds that the records of a data set are waited for: an import is short
ID_DEPTH = 3  # parts of a data set's id: hfds/ORG/NAME


@dataclass(frozen=True)
class Home:
    """A home folder; it need not exist before something is written.

    Attributes:
        root: the folder.
        option: what names it on a command line, " --home FOLDER"; empty where the environment or
            the user's data folder does.
    """

    root: Path
    option: str = ""

    @classmethod
    def resolve(cls, option: str | Path | None = None) -> "Home":
        """The home that `--home` names, else $CACHECLIP_HOME, else the user's data folder.

        Raises:
            InputError: it is a file, or within one, or cannot be looked at, or has no name.
        """
        chosen = option if option is not None else os.environ.get("CACHECLIP_HOME")
        if chosen == "":
            raise InputError(
                "the home has no name",
                where="--home" if option is not None else "$CACHECLIP_HOME",
                fix="choose a folder with --home, or: unset CACHECLIP_HOME",
            )
        root = expanded(chosen or platformdirs.user_data_path("cacheclip")).absolute()
        try:
            there = next(path for path in (root, *root.parents) if path.exists())
            why = None if there.is_dir() else f"{there} is a file"
        except OSError as error:
            why = str(error.strerror)
        if why is not None:
            raise InputError(
                f"the home is not a folder: {why}",
                where=str(root),
                fix="choose a folder with --home",
            )
        return cls(root, f" --home {shlex.quote(str(root))}" if option else "")

    def refuse_within(self, pictures: Path) -> None:
        """Refuse to be a home inside a folder of pictures, which it would become part of.

        Raises:
            InputError: it lies there.
        """
        if self.root.resolve().is_relative_to(pictures.resolve()):
            raise InputError(
                "the home folder lies within the data folder",
                where=f"{self.root} in {pictures}",
                fix="choose a folder elsewhere with --home",
            )

    def refuse_closed(self, dataset: str | None = None) -> None:
        """Refuse a home that features cannot be written to, before the work that makes them.

        Args:
            dataset: the data set whose folder is tried too.

        Raises:
            StoreError: it, or what is there of it, takes no file.
        """
        names = ["stores", "memo", self._log.name]
        if dataset is not None:
            names.append(self.dataset_folder(dataset).relative_to(self.root).as_posix())
        with refusals(self.root):
            try_writing(self.root, names)

    def holding(self, dataset: str) -> AbstractContextManager[None]:
        """Hold the records of a data set, from the look at what is there to what is written.

        Raises:
            LockedError: another process holds them, and does not end.
        """
        return lock(self.dataset_folder(dataset) / RECORDS_LOCK, wait=RECORDS_WAIT)

    def dataset_folder(self, dataset: str) -> Path:
        """Where all of a data set lies."""
        parts = dataset.split("/")
        if len(parts) > ID_DEPTH or any(part.strip(". ") in ("", NO_SPLIT) for part in parts):
            raise InputError(
                f"{dataset!r} cannot be the id of a data set",
                where=str(self.root),
                fix="choose another with --name NAME; `cacheclip ls` lists those that are there",
            )
        return self.root.joinpath("stores", *parts)

    def store_path(self, dataset: str, split: str, layer: str, digest: str) -> Path:
        """The folder of an image store."""
        return self.dataset_folder(dataset) / split / store_name(layer, digest)

    def text_path(self, dataset: str, digest: str) -> Path:
        """The folder of a text store."""
        return self.dataset_folder(dataset) / NO_SPLIT / store_name(TEXT, digest)

    def part_path(self, dataset: str, kind: str, digest: str) -> Path:
        """The folder of a store of an encoder's parts."""
        return self.dataset_folder(dataset) / NO_SPLIT / store_name(kind, digest)

    def write_labels(self, labels: Labels) -> None:
        """Publish the labels of a data set; its stores stay as they are. See `write_labels`."""
        write_labels(self.dataset_folder(labels.dataset), labels)

    def labels_file(self, dataset: str) -> Path:
        """Where the labels of a data set are, or will be."""
        return self.dataset_folder(dataset) / LABELS_FILE

    def labels(self, dataset: str) -> Labels:
        """The labels of a data set.

        Raises:
            StoreError: there are none, or the file is not such a record.
        """
        return read_labels(self.dataset_folder(dataset), dataset)

    def datasets(self) -> list[str]:
        """The ids of all data sets of which something is here, finished or not.

        Raises:
            StoreError: the folder of all stores cannot be looked into.
        """
        return self.looked_through()[0]

    def looked_through(self) -> tuple[list[str], list[StoreError]]:
        """The ids of all data sets, and why folders cannot be looked into.

        Raises:
            StoreError: the folder of all stores cannot be.
        """
        stores = self.root / "stores"
        found, closed = [], []
        for one in dataset_folders(stores, ID_DEPTH, labels=LABELS_FILE, key=KEY_FILE):
            if isinstance(one, StoreError):
                closed.append(one)
            else:
                found.append(one.relative_to(stores).as_posix())
        return sorted(found), closed

    def stores_like(self, key: Key) -> list[Store]:
        """The complete stores of a data set that differ from `key` in split and samples alone."""

        def same(other: Mapping[str, Any]) -> bool:
            parts = ("layer", "encoder", "preprocess", "compute", "store", "views")
            return all(other.get(part) == key[part] for part in parts)

        found = []
        for path in store_folders(self.dataset_folder(key["data"]["id"])):
            if not path.name.startswith(f"{key['layer']}-"):
                continue
            try:
                store = Store.open(path, self.option)
            except StoreError:
                continue  # incomplete or damaged: no rows to take
            if same(store.key):
                found.append(store)
        return found

    def record_extraction(
        self,
        *,
        dataset: str,
        model: str,
        pretrained: str | None,
        set_digest: str,
        text_digest: str | None,
        root: Path | None,
        sentences_digest: str | None = None,
    ) -> None:
        """Note that these features were asked for last, even if nothing had to be encoded.

        Args:
            dataset: id of the data set.
            model: name of the encoder.
            pretrained: its weights.
            set_digest: of the feature set.
            text_digest: of its text store.
            root: where the pictures lay.
            sentences_digest: of its text store of sentences, where some were asked for.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "dataset": dataset,
            "model": model,
            "pretrained": pretrained,
            "set": set_digest,
            "text": text_digest,
            "root": None if root is None else str(root),
            **({"sentences": sentences_digest} if sentences_digest else {}),
        }
        append_line(self._log, canonical_json(sealed(line)))

    def extractions(self) -> list[dict[str, Any]]:
        """The log of extractions, oldest first.

        Raises:
            StoreError: it may not be read.
        """
        return list(read_extractions(self._log).lines)

    def log_notices(self) -> list[str]:
        """What there is to say of lines of that log that are none: it only orders what is there."""
        return lines_left_out(self._log, read_extractions(self._log).left_out)

    def last_extraction(self) -> dict[str, Any] | None:
        """The last line of that log of a data set of pictures, which boxes are none of."""
        lines = reversed(self.extractions())
        return next((line for line in lines if not is_of_boxes(line["dataset"])), None)

    def memo(self, digest: str) -> Any | None:
        """What was remembered under a digest; None if nothing was, or something else by now."""
        try:
            content = read_json(self.memo_file(digest))
        except (OSError, StoreError):
            return None  # a memo only saves time
        if not isinstance(content, dict) or seal_agrees(content) is False:
            return None
        return unsealed(content)

    def remember(self, digest: str, obj: dict[str, Any]) -> None:
        """Remember what JSON can hold under a digest."""
        publish_json(self.memo_file(digest), sealed(obj))

    def memo_file(self, digest: str) -> Path:
        """Where that is remembered."""
        return self.root / "memo" / f"{digest}.json"

    def feature_sets(self) -> list[FeatureSet]:
        """All feature sets that stage two can use, by data set and encoder."""
        sets = [c.features for c in self._candidates(self.datasets()) if c.usable]
        return sorted(sets, key=lambda s: (s.dataset, s.name, s.compute["dtype"], s.digest))

    def find(
        self,
        dataset: str | None = None,
        model: str | None = None,
        pretrained: str | None = None,
    ) -> FeatureSet:
        """The feature set that a command means; its `notices` say what else it could have meant.

        Args:
            dataset: an id, the last part of one, or the folder that was extracted; by default
                what was extracted last.
            model: name of the encoder, or NAME@WEIGHTS; by default the one extracted last.
            pretrained: its weights.

        Raises:
            StoreError: nothing fits or it is incomplete; the fix is the command that makes it.
        """
        model, pretrained = encoder_options(model, pretrained)
        log, (ids, closed) = self.extractions(), self.looked_through()
        named = matching(dataset, ids, log)
        last = log[-1]["dataset"] if log else None
        if closed and (not named or (dataset is None and last not in ids)):
            raise closed[0]  # what was meant may lie there
        found = self._candidates(named, needed=[last] if dataset is None else named)
        wanted = {"dataset": dataset, "model": model, "pretrained": pretrained}
        self._refuse_lost(found, [line for line in log if line["dataset"] in named], wanted)
        chosen = choose(found, log, **wanted)
        if chosen is None:
            folders = [self.dataset_folder(own) for own in named]
            for own in named:
                self._refuse_unread(own)
            stores = [store for folder in folders for store in begun(folder, self.option)]
            raise missing(self.root, ids, stores, option=self.option, **wanted)
        doubts = chosen.doubts(self.labels_file(chosen.dataset))
        return replace(chosen, notices=(*chosen.notices, *doubts, *self.log_notices()))

    @property
    def _log(self) -> Path:
        return self.root / "extractions.jsonl"

    def _candidates(
        self, datasets: Sequence[str], needed: Sequence[str | None] = ()
    ) -> list[Candidate]:
        """The sets of some data sets; one without labels is left out, unless it is `needed`."""
        texts: dict[str, list[str]] = {}
        log = self.extractions()
        for line in log:
            own = texts.setdefault(line["set"], [])
            sentences = line.get("sentences")
            own += [*([sentences] if isinstance(sentences, str) else []), line["text"]]
        found: list[Candidate] = []
        for dataset in datasets:
            folder = self.dataset_folder(dataset)
            whole_once = any(line["dataset"] == dataset for line in log)
            try:
                if not whole_once and not there(folder / LABELS_FILE):
                    continue  # labels are the last that a first extraction writes
                labels = read_labels(folder, dataset)
                found += candidates(folder, labels, texts, self.option)
            except StoreError as error:
                if dataset in needed:
                    raise self.with_command(dataset, error) from None
        return found

    def _refuse_lost(
        self, found: Sequence[Candidate], log: Log, wanted: Mapping[str, str | None]
    ) -> None:
        """Refuse to take another set for the one extracted last, whose keys cannot be read."""
        model, pretrained = wanted["model"], wanted["pretrained"]
        fitting = [line for line in log if is_encoder(encoder_of(line), model, pretrained)]
        if fitting and fitting[-1]["set"] not in {one.features.digest for one in found}:
            self._refuse_unread(fitting[-1]["dataset"])

    def _refuse_unread(self, dataset: str) -> None:
        """Refuse a data set with a store whose key cannot be read, which may be the one meant.

        Raises:
            StoreError: there is one.
        """
        for error in unread(self.dataset_folder(dataset), self.option):
            raise self.with_command(dataset, error)

    def with_command(self, dataset: str, error: StoreError) -> StoreError:
        """The error of a file of a data set, with the command that makes it anew."""
        file = self.labels_file(dataset)
        if error.where == str(file) and not file.exists():
            return StoreError(error.what, where=error.where, fix=self.command(dataset))
        if not isinstance(error, DamagedError):
            return error
        if error.where == str(file):
            again = repair(file, self.command(dataset))
            fix = f"correct the file, or have it made anew: {again}"
            return DamagedError(error.what, where=error.where, fix=fix)
        of_key = Path(error.where).name == KEY_FILE  # which alone could have told the command
        return made_anew(error, self.command(dataset)) if of_key else error

    def command(self, dataset: str) -> str:
        """The command that makes the features of a data set, as far as anything here tells it."""
        stores = begun(self.dataset_folder(dataset), self.option)
        told = [store.header for store in stores if store.header.whole]
        if told:
            return told[0].extract_command
        lines = [line for line in self.extractions() if line["dataset"] == dataset]
        if not lines:
            return extract_command(dataset, home=self.option)
        asked = encoder_of(lines[-1])
        options = {"model": asked["name"], "pretrained": asked["pretrained"]}
        return extract_command(dataset, options, root=lines[-1]["root"], home=self.option)
