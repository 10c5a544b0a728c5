"""Feature sets: the stores of one data set and encoder that stage two reads together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.files.disk import DamagedError, repair
from cacheclip.store.begun import headers
from cacheclip.store.given import read_draws
from cacheclip.store.header import Header, made_anew
from cacheclip.store.key import key_digest, set_digest_of, store_name
from cacheclip.store.labels import LABELS_FILE, Labels
from cacheclip.store.reader import IncompleteStoreError, Store
from cacheclip.store.schema import IMPORTED, KEY_FILE, LAYERS, TEXT, Failure
from cacheclip.store.text import TextStore

NO_SPLIT = "-"  # the folder of what belongs to a data set and to none of its splits
OWN = ("folder", "csv", "npz")  # what their ids begin with
PRECISIONS = ("float32", "float16", "bfloat16")  # best first
_TEXT = (NO_SPLIT, TEXT)  # where a problem of the text stands among those of the stores


@dataclass(frozen=True)
class FeatureSet:
    """The complete stores of one data set and encoder, its labels and its text features.

    Attributes:
        dataset: id of the data set.
        encoder: the encoder block of the stores' keys.
        preprocess: their preprocess block.
        compute: their compute block.
        store_dtype: the stored type.
        digest: `set_digest` of all that.
        labels: labels and class names.
        images: (split, layer) -> store.
        text: per-prompt text features of these class names, None where there are none.
        extract_command: the command line that makes or completes this set.
        notices: what was chosen among several, and how to choose another.
        problems: (split, layer) -> why that store cannot be used.
    """

    dataset: str
    encoder: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    compute: Mapping[str, Any]
    store_dtype: str
    digest: str
    labels: Labels
    images: Mapping[tuple[str, str], Store]
    text: TextStore | None
    extract_command: str
    notices: tuple[str, ...] = ()
    problems: Mapping[tuple[str, str], StoreError] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The encoder, `MODEL@PRETRAINED`."""
        return f"{self.encoder['name']}@{self.encoder['pretrained']}"

    @property
    def own(self) -> bool:
        """Whether these are a user's pictures or arrays, and no data set of the field."""
        return self.dataset.partition("/")[0] in OWN

    @property
    def text_command(self) -> str:
        """What to do for text features where there are none."""
        imported = self.encoder["library"] == IMPORTED
        first = "add text_features [C, D] and logit_scale to the file, then: " if imported else ""
        return first + self.extract_command

    @cached_property
    def given_draws(self) -> Mapping[tuple[int, int], tuple[int, ...]]:
        """(seed, shots) -> rows of split train: the support sets that came with the data set.

        Raises:
            StoreError: their file is damaged.
        """
        if "train" not in self.labels.splits:
            return {}
        folder = self.store("train").path.parents[1]
        ids_sha256 = self.labels.splits["train"].ids_sha256
        return read_draws(folder, ids_sha256, self.extract_command).rows

    def store(self, split: str, layer: str = "image") -> Store:
        """The store of one split and layer.

        Raises:
            StoreError: there is none, or it cannot be used.
        """
        found = self.images.get((split, layer))
        if found is None:
            raise self.problems.get((split, layer)) or StoreError(
                f"there are no {layer} features of split {split}",
                where=f"data set {self.dataset}, encoder {self.name}",
                fix=self.extract_command,
            )
        return found

    def doubts(self, labels_file: Path) -> Iterator[str]:
        """A line for each file that is not as it was written and is believed all the same."""
        command = self.extract_command
        if self.labels.corrected:
            yield (
                f"labels and class names of {self.dataset} were corrected by hand: {labels_file}; "
                f"for those of the data: {repair(labels_file, command)}"
            )
        stores = [(store.header, store.path) for store in self.images.values()]
        stores += [(self.text.header, self.text.path)] if self.text else []
        for header, path in stores:
            if not header.whole:
                file = path / KEY_FILE
                yield (
                    f"{file}: what it says of its making is not as it was written; to make it "
                    f"anew: {repair(file, command)}"
                )

    def failures(self, split: str) -> dict[int, Failure]:
        """Row -> why it has no features, for the rows of a split that lack those of some layer.

        Layers may disagree: a retry of failed pictures mends one after the other.

        Raises:
            StoreError: a shard is damaged.
        """
        others = [own for place, own in self.images.items() if place[0] == split != place[1]]
        stores = [*others, self.store(split)]  # the image's word is the last
        return {failure.row: failure for own in stores for failure in own.failures()}


@dataclass(frozen=True)
class Candidate:
    """A feature set as far as it has got.

    Attributes:
        features: the set, with the stores that are complete.
        header: key.json of one of its stores.
    """

    features: FeatureSet
    header: Header

    @property
    def problems(self) -> Mapping[tuple[str, str], StoreError]:
        """(split, layer) -> why that store cannot be used."""
        return self.features.problems

    @property
    def usable(self) -> bool:
        """Whether every split that has samples has its image features, and its text is sound."""
        return not self.absent and _TEXT not in self.problems

    @property
    def absent(self) -> list[str]:
        """The splits whose image features cannot be used."""
        labels = self.features.labels
        wanted = [name for name, split in labels.splits.items() if len(split.labels)]
        return [split for split in wanted if (split, "image") not in self.features.images]

    def error(self) -> StoreError:
        """Why the set is not usable."""
        problems = {split: self.problems.get((split, "image")) for split in self.absent}
        for problem in problems.values():
            if problem is not None and not isinstance(problem, IncompleteStoreError):
                return problem
        if not problems:
            return self.problems[_TEXT]
        begun = [one for one in problems.values() if isinstance(one, IncompleteStoreError)]
        where = f"data set {self.features.dataset}, encoder {self.features.name}"
        if len(begun) == len(problems) and all(one.done == one.total for one in begun):
            images = self.features.images.items()
            failed = sum(one.failed for one in begun)
            failed += sum(store.failed for (_, layer), store in images if layer == "image")
            return not_accepted(self.header, failed, where=where)
        states = [
            f"{split}: {problem.done} of {problem.total} shards done"
            if isinstance(problem, IncompleteStoreError)
            else f"{split}: not begun"
            for split, problem in problems.items()
        ]
        return StoreError(
            f"the features are incomplete ({', '.join(states)})",
            where=where,
            fix=self.features.extract_command,
        )


def not_accepted(header: Header, failed: int, *, where: str) -> StoreError:
    """The error of a set that has all its shards, and whose extraction did not end well."""
    if not failed:
        return StoreError(
            "the features are complete, but their extraction did not end",
            where=where,
            fix=header.extract_command,
        )
    return StoreError(
        f"the features are complete, but not accepted: {failed} pictures failed",
        where=where,
        fix=f"{header.command(max_failures=failed)} (or repair the pictures and add "
        "--retry-failed)",
    )


@dataclass
class _Gathered:
    """The stores of one set while the folders are read."""

    header: Header  # of any of them
    images: dict[tuple[str, str], Store] = field(default_factory=dict)
    problems: dict[tuple[str, str], StoreError] = field(default_factory=dict)


def candidates(
    folder: Path, labels: Labels, texts: Mapping[str, Sequence[str]], home: str
) -> list[Candidate]:
    """All feature sets of a data set whose samples are those of its labels.

    Args:
        folder: the data set's folder.
        labels: its labels.
        texts: set digest -> digests of the text stores made with it, the newest last.
        home: `Home.option`.

    Raises:
        DamagedError: the labels are of other samples than any features.
        StoreError: a folder cannot be looked into, or there are not as many labels as samples.
    """
    sets: dict[str, _Gathered] = {}
    broken: dict[Path, StoreError] = {}
    unknown = list(labels.splits)
    for split, record in labels.splits.items():
        readable, unread = headers(folder / split, home)
        broken |= unread
        for header, path in readable:
            data = header.key.get("data", {})
            samples = (data.get("samples_sha256"), data.get("files_sha256"))
            if samples != (record.ids_sha256, record.files_sha256) or header.key["views"]:
                continue
            unknown = [name for name in unknown if name != split]
            if data["samples"] != len(record.labels):
                raise _other_count(folder, split, header, len(record.labels))
            own = sets.setdefault(set_digest_of(header.key), _Gathered(header))
            own.header = own.header if own.header.whole else header
            place = (split, header.key["layer"])
            try:
                own.images[place] = Store.open(path, home, header)
            except StoreError as error:
                own.problems[place] = error
    if labels.corrected and unknown and not broken:  # corrections change labels, not samples
        raise DamagedError(
            f"these are not labels: no features are of the samples of split {unknown[0]}",
            where=str(folder / LABELS_FILE),
            fix="correct the file, or remove it and run `cacheclip extract` again",
        )
    for own in sets.values():
        own.problems |= _unread_of(own.header, labels, folder, broken)
    written = headers(folder / NO_SPLIT, home)
    return [
        Candidate(_feature_set(name, own, labels, written, texts.get(name, ())), own.header)
        for name, own in sorted(sets.items())
    ]


def _other_count(folder: Path, split: str, header: Header, count: int) -> StoreError:
    file, command = folder / LABELS_FILE, header.extract_command
    return StoreError(
        f"{count} labels for the {header.key['data']['samples']} pictures of split {split}",
        where=str(file),
        fix=f"correct the file, or: {repair(file, command)}",
    )


def _unread_of(
    header: Header, labels: Labels, folder: Path, broken: Mapping[Path, StoreError]
) -> dict[tuple[str, str], StoreError]:
    """Which stores of a set are among those whose key cannot be read: its folder tells the key.

    Args:
        header: of another store of the set.
        labels: of the data set.
        folder: the data set's.
        broken: folder of a store -> why its key cannot be read.
    """
    found = {}
    for split, record in labels.splits.items() if broken else ():
        data = {
            "id": header.key["data"]["id"],
            "split": split,
            "samples": len(record.labels),
            "samples_sha256": record.ids_sha256,
            "files_sha256": record.files_sha256,
        }
        for layer in LAYERS:
            digest = key_digest({**header.key, "layer": layer, "data": data})
            error = broken.get(folder / split / store_name(layer, digest))
            if error is not None:
                found[split, layer] = made_anew(error, header.extract_command)
    return found


def _feature_set(
    name: str,
    own: _Gathered,
    labels: Labels,
    written: tuple[Sequence[tuple[Header, Path]], Mapping[Path, StoreError]],
    texts: Sequence[str],
) -> FeatureSet:
    key, problems = own.header.key, dict(own.problems)
    try:
        text = _text(own.header, labels, *written, texts)
    except StoreError as error:
        text, problems[_TEXT] = None, error
    return FeatureSet(
        dataset=labels.dataset,
        encoder=key["encoder"],
        preprocess=key["preprocess"],
        compute=key["compute"],
        store_dtype=key["store"]["dtype"],
        digest=name,
        labels=labels,
        images=own.images,
        text=text,
        extract_command=own.header.extract_command,
        problems=problems,
    )


def _text(
    image: Header,
    labels: Labels,
    written: Sequence[tuple[Header, Path]],
    broken: Mapping[Path, StoreError],
    texts: Sequence[str],
) -> TextStore | None:
    """The text store of the newest extraction, among those of this encoder and class names.

    Raises:
        StoreError: it is damaged, or its key cannot be read.
    """
    key, age = image.key, {name: k for k, name in enumerate(texts)}
    newest = store_name(TEXT, texts[-1]) if texts and texts[-1] else None
    for path, error in broken.items():
        if path.name == newest:
            raise made_anew(error, image.extract_command)
    fitting = [
        (age.get(header.digest, -1), header.digest, header.home, path)
        for header, path in written
        if header.key["layer"] == TEXT
        and header.key["encoder"] == key["encoder"]
        and header.key["compute"] == key["compute"]
        and header.key["text"]["classnames_sha256"] == labels.classnames_sha256
    ]
    lost: StoreError | None = None
    for place, _, home, path in sorted(fitting, reverse=True):
        try:
            return TextStore.open(path, home)
        except IncompleteStoreError as error:  # a killed extraction left it; an older may be whole
            lost = lost or (error if place >= 0 else None)
    if lost is not None:  # it was whole once
        raise lost
    return None
