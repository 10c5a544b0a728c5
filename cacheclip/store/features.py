"""Feature sets: the stores of one data set and encoder that stage two reads together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.store.given import read_draws
from cacheclip.store.key import Header, read_header, set_digest_of
from cacheclip.store.labels import Labels
from cacheclip.store.reader import IncompleteStoreError, Store
from cacheclip.store.schema import IMPORTED, KEY_FILE, TEXT
from cacheclip.store.text import TextStore

NO_SPLIT = "-"  # the folder of what belongs to a data set and to none of its splits
OWN = ("folder", "csv", "npz")  # what their ids begin with
PRECISIONS = ("float32", "float16", "bfloat16")  # best first


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
            StoreError: there is none.
        """
        found = self.images.get((split, layer))
        if found is None:
            raise StoreError(
                f"there are no {layer} features of split {split}",
                where=f"data set {self.dataset}, encoder {self.name}",
                fix=self.extract_command,
            )
        return found


@dataclass(frozen=True)
class Candidate:
    """A feature set as far as it has got.

    Attributes:
        features: the set, with the stores that are complete.
        problems: (split, layer) -> why that store cannot be used.
        header: key.json of one of its stores.
    """

    features: FeatureSet
    problems: Mapping[tuple[str, str], StoreError]
    header: Header

    @property
    def usable(self) -> bool:
        """Whether every split that has samples has its image features."""
        return not self.absent

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


@dataclass(frozen=True)
class Begun:
    """An image store of whatever samples, as far as it has got.

    Attributes:
        header: its key.json.
        path: its folder.
        done: finished shards.
        total: shards of its plan.
        failed: rows of the finished shards that have no vector.
    """

    header: Header
    path: Path
    done: int
    total: int
    failed: int


def begun(folder: Path, home: str) -> list[Begun]:
    """The image stores of a data set that can be opened or are not complete yet.

    Args:
        folder: the data set's folder.
        home: `Home.option`.
    """
    found = []
    for split in sorted(folder.glob("*")):
        for header, path in _headers(split, home):
            if header.key["layer"] != TEXT:
                try:
                    store = Store.open(path, home)
                    shards = len(store.records)
                    found.append(Begun(header, path, shards, shards, store.failed))
                except IncompleteStoreError as error:
                    found.append(Begun(header, path, error.done, error.total, error.failed))
                except StoreError:
                    continue  # damaged: `extract` says so, and must
    return found


def candidates(
    folder: Path, labels: Labels, texts: Mapping[str, Sequence[str]], home: str
) -> list[Candidate]:
    """All feature sets of a data set whose samples are those of its labels.

    Args:
        folder: the data set's folder.
        labels: its labels.
        texts: set digest -> digests of the text stores made with it, the newest last.
        home: `Home.option`.
    """
    sets: dict[str, _Gathered] = {}
    for split, record in labels.splits.items():
        for header, path in _headers(folder / split, home):
            data = header.key.get("data", {})
            samples = (data.get("samples_sha256"), data.get("files_sha256"))
            if samples != (record.ids_sha256, record.files_sha256) or header.key["views"]:
                continue
            own = sets.setdefault(set_digest_of(header.key), _Gathered(header))
            place = (split, header.key["layer"])
            try:
                own.images[place] = Store.open(path, home)
            except StoreError as error:
                own.problems[place] = error
    written = _headers(folder / NO_SPLIT, home)
    return [
        Candidate(
            _feature_set(name, own, labels, written, texts.get(name, ())), own.problems, own.header
        )
        for name, own in sorted(sets.items())
    ]


def _feature_set(
    name: str,
    own: _Gathered,
    labels: Labels,
    written: Sequence[tuple[Header, Path]],
    texts: Sequence[str],
) -> FeatureSet:
    key = own.header.key
    return FeatureSet(
        dataset=labels.dataset,
        encoder=key["encoder"],
        preprocess=key["preprocess"],
        compute=key["compute"],
        store_dtype=key["store"]["dtype"],
        digest=name,
        labels=labels,
        images=own.images,
        text=_text(key, labels, written, texts),
        extract_command=own.header.extract_command,
    )


def _text(
    key: Mapping[str, Any],
    labels: Labels,
    written: Sequence[tuple[Header, Path]],
    texts: Sequence[str],
) -> TextStore | None:
    """The text store of the newest extraction, among those of this encoder and class names."""
    age = {name: k for k, name in enumerate(texts)}
    fitting = [
        (age.get(header.digest, -1), header.digest, header.home, path)
        for header, path in written
        if header.key["layer"] == TEXT
        and header.key["encoder"] == key["encoder"]
        and header.key["compute"] == key["compute"]
        and header.key["text"]["classnames_sha256"] == labels.classnames_sha256
    ]
    for _, _, home, path in sorted(fitting, reverse=True):
        try:
            return TextStore.open(path, home)
        except IncompleteStoreError:
            continue  # a killed extraction left it; an older one may be whole
    return None


def _headers(folder: Path, home: str) -> list[tuple[Header, Path]]:
    """The readable key.json files of a split's stores."""
    found = []
    for file in sorted(folder.glob(f"*/{KEY_FILE}")):
        try:
            found.append((read_header(file.parent, home), file.parent))
        except StoreError:
            continue  # as good as not there: `extract` says what is wrong with it, and must
    return found
