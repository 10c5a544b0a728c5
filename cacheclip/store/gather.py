"""What lies in the folder of a data set, put together to feature sets, whole or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cacheclip.errors import StoreError
from cacheclip.files.disk import DamagedError, repair
from cacheclip.store.begun import headers
from cacheclip.store.features import NO_SPLIT, VIEWS, FeatureSet
from cacheclip.store.header import Header, made_anew
from cacheclip.store.key import key_digest, set_digest_of, store_name
from cacheclip.store.labels import LABELS_FILE, Labels
from cacheclip.store.parts import PartStore
from cacheclip.store.reader import IncompleteStoreError, Store
from cacheclip.store.schema import LAYERS, PARTS, PATCHES, SENTENCES, TEXT
from cacheclip.store.text import TextStore

Problems: TypeAlias = dict[tuple[str, str], StoreError]

_TEXT = (NO_SPLIT, TEXT)  # where a problem of the text stands among those of the stores


@dataclass(frozen=True)
class Candidate:
    """A feature set as far as it has got.

    Attributes:
        features: the set, with the stores that are complete.
    """

    features: FeatureSet

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
            return not_accepted(self.features.header, failed, where=where)
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

    header: Header  # of any of them, of one of the plain layers if there is one
    images: dict[tuple[str, str], Store] = field(default_factory=dict)
    views: dict[tuple[str, str, int], Store] = field(default_factory=dict)
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
        for header, path in sorted(readable, key=_is_extra):
            data = header.key.get("data", {})
            samples = (data.get("samples_sha256"), data.get("files_sha256"))
            if samples != (record.ids_sha256, record.files_sha256):
                continue
            unknown = [name for name in unknown if name != split]
            if data["samples"] != len(record.labels):
                raise _other_count(folder, split, header, len(record.labels))
            own = sets.setdefault(set_digest_of(header.key), _Gathered(header))
            own.header = own.header if own.header.whole else header
            layer, views = header.key["layer"], header.key["views"]
            try:
                store = Store.open(path, home, header)
            except StoreError as error:
                own.problems[split, layer if views is None else layer + VIEWS] = error
            else:
                if views is None:
                    own.images[split, layer] = store
                else:
                    own.views[split, layer, views["n"]] = store
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
        Candidate(_feature_set(name, own, labels, written, texts.get(name, ())))
        for name, own in sorted(sets.items())
    ]


def _is_extra(found: tuple[Header, Path]) -> bool:
    """Whether a store of pictures is one that only extractions with more options make."""
    key = found[0].key
    return key["layer"] == PATCHES or key.get("views") is not None


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
            digest = key_digest({**header.key, "layer": layer, "data": data, "views": None})
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
    readable, broken = written
    spoken = [
        (header, path)
        for header, path in readable
        if header.key["encoder"] == key["encoder"]
        and header.key["compute"] == key["compute"]
        and header.key.get("text", {}).get("classnames_sha256", labels.classnames_sha256)
        == labels.classnames_sha256
    ]
    text: TextStore | None = None
    families: dict[str, TextStore] = {}
    sentences = _sentences(spoken, texts, problems)
    try:
        text, families = _texts(own.header, spoken, broken, texts, problems)
    except StoreError as error:
        problems[_TEXT] = error
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
        header=own.header,
        problems=problems,
        texts=families,
        views=own.views,
        parts=_parts(own.header, spoken, broken, problems),
        sentences=sentences,
    )


def _parts(
    image: Header,
    written: Sequence[tuple[Header, Path]],
    broken: Mapping[Path, StoreError],
    problems: Problems,
) -> tuple[PartStore, ...]:
    """The stores of parts of the set's encoder; why others cannot be used goes to `problems`."""
    found = []
    for path, error in broken.items():
        kind = path.name.rpartition("-")[0]
        if kind in PARTS:  # perhaps another encoder's, so it counts only where none is found
            problems[NO_SPLIT, kind] = made_anew(error, image.extract_command)
    for header, path in written:
        if header.key["layer"] in PARTS:
            try:
                found.append(PartStore.open(path, header.home))
            except StoreError as error:
                problems[NO_SPLIT, header.key["layer"]] = error
    return tuple(found)


def _texts(
    image: Header,
    written: Sequence[tuple[Header, Path]],
    broken: Mapping[Path, StoreError],
    texts: Sequence[str],
    problems: Problems,
) -> tuple[TextStore | None, dict[str, TextStore]]:
    """The text store of the newest extraction, and the newest one of each family of templates.

    Why a family's cannot be used goes to `problems`.

    Raises:
        StoreError: the newest is damaged, or its key cannot be read.
    """
    age = {name: k for k, name in enumerate(texts)}
    newest = store_name(TEXT, texts[-1]) if texts and texts[-1] else None
    for path, error in broken.items():
        if path.name == newest:
            raise made_anew(error, image.extract_command)
    fitting = [
        (age.get(header.digest, -1), header.digest, header, path)
        for header, path in written
        if header.key["layer"] == TEXT and not _of_sentences(header)
    ]
    lost: StoreError | None = None
    chosen: TextStore | None = None
    families: dict[str, TextStore] = {}
    for place, _, header, path in sorted(fitting, key=lambda one: one[:2], reverse=True):
        family = str(header.key["text"]["template"])
        try:
            store = TextStore.open(path, header.home)
        except IncompleteStoreError as error:  # a killed extraction left it; an older may be whole
            lost = lost or (error if place >= 0 and chosen is None else None)
            continue
        except StoreError as error:
            if chosen is None:
                raise
            problems[NO_SPLIT, f"{TEXT}/{family}"] = error
            continue
        chosen = chosen or store
        families.setdefault(family, store)
    if chosen is None and lost is not None:  # it was whole once
        raise lost
    return chosen, families


def _sentences(
    written: Sequence[tuple[Header, Path]], texts: Sequence[str], problems: Problems
) -> TextStore | None:
    """The store of sentences extracted last; why one cannot be used goes to `problems`."""
    age = {name: k for k, name in enumerate(texts)}
    fitting = [
        (age.get(header.digest, -1), header.digest, header, path)
        for header, path in written
        if header.key["layer"] == TEXT and _of_sentences(header)
    ]
    for _, _, header, path in sorted(fitting, key=lambda one: one[:2], reverse=True):
        try:
            return TextStore.open(path, header.home)
        except StoreError as error:
            problems.setdefault((NO_SPLIT, f"{TEXT}/{SENTENCES}"), error)
            if not isinstance(error, IncompleteStoreError):
                return None  # it was whole once: no older one takes its place
    return None


def _of_sentences(header: Header) -> bool:
    """Whether a text store holds sentences of each class, and not prompts of templates."""
    return str(header.key["text"]["template"]).startswith(SENTENCES)
