"""Feature sets: the stores of one data set and encoder that stage two reads together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacheclip.errors import StoreError, argument
from cacheclip.files.disk import repair
from cacheclip.store.given import read_draws
from cacheclip.store.header import Header
from cacheclip.store.labels import Labels
from cacheclip.store.not_extracted import NotExtractedError
from cacheclip.store.parts import Arrays, PartStore
from cacheclip.store.reader import Store
from cacheclip.store.schema import (
    ENCODER,
    IMPORTED,
    KEY_FILE,
    PATCHES,
    REGIONS,
    REGIONS_SPLIT,
    SENTENCES,
    SHIPPED_SENTENCES,
    TEXT,
    TOKENS,
    TOWER,
    Failure,
)
from cacheclip.store.text import TextStore

if TYPE_CHECKING:
    from cacheclip.store.auxiliary import Auxiliary

NO_SPLIT = "-"  # the folder of what belongs to a data set and to none of its splits
OWN = ("folder", "csv", IMPORTED, REGIONS)  # what their ids begin with
PRECISIONS = ("float32", "float16", "bfloat16")  # best first
VIEWED = "train"  # the split whose pictures methods look at from several sides
VIEWS = "/views"  # after a layer's name: its augmented views
OTHERS = ("ViT-B-32", "RN50")  # encoders to put beside one
_KINDS = {"tower": TOWER, "tokens": TOKENS}  # of stores of parts; all other parts are in ENCODER


def is_of_boxes(dataset: str) -> bool:
    """Whether the samples of a data set of this id are boxes of pictures."""
    return dataset.startswith(f"{REGIONS}/")


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
        text: per-prompt text features of these class names, None where there are none; of several
            families the one extracted last.
        header: key.json of one of the stores.
        notices: what was chosen among several, and how to choose another.
        problems: (split, layer) -> why that store cannot be used.
        texts: family of templates -> its text features of these class names.
        views: (split, layer, W) -> store of W views of each picture.
        parts: what is kept of the encoder itself.
        sentences: features of the sentences that describe each class, of several files those
            extracted last; None where there are none.
        aux: the features of a second encoder; None where none was named.
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
    header: Header
    notices: tuple[str, ...] = ()
    problems: Mapping[tuple[str, str], StoreError] = field(default_factory=dict)
    texts: Mapping[str, TextStore] = field(default_factory=dict)
    views: Mapping[tuple[str, str, int], Store] = field(default_factory=dict)
    parts: tuple[PartStore, ...] = ()
    sentences: TextStore | None = None
    aux: "Auxiliary | None" = None

    @property
    def name(self) -> str:
        """The encoder, `MODEL@PRETRAINED`."""
        return f"{self.encoder['name']}@{self.encoder['pretrained']}"

    @property
    def own(self) -> bool:
        """Whether these are a user's pictures or arrays, and no data set of the field."""
        return self.dataset.partition("/")[0] in OWN

    @property
    def of_boxes(self) -> bool:
        """Whether its samples are boxes of pictures: see `store.regions`."""
        return is_of_boxes(self.dataset)

    @property
    def option(self) -> str:
        """What names their home in a command."""
        return self.header.home

    @property
    def extract_command(self) -> str:
        """The command line that makes or completes this set."""
        return self.header.extract_command

    @property
    def imported(self) -> bool:
        """Whether no encoder of ours made these features."""
        return bool(self.encoder["library"] == IMPORTED)

    @property
    def text_command(self) -> str:
        """What to do for text features where there are none."""
        need = "add text_features [C, D] and logit_scale to the file, then: "
        return (need if self.imported else "") + self.extract_command

    @property
    def no_sentences(self) -> StoreError:
        """The error of sentences that are read and are not there."""
        what = "there are no sentences that describe the classes"
        where = f"data set {self.dataset}, encoder {self.name}"
        if problem := self.problems.get((NO_SPLIT, f"{TEXT}/{SENTENCES}")):
            return StoreError(what, where=where, fix=problem.fix)
        if self.imported:
            fix = f"add sentence_features [C, S, D] to the file, then: {self.extract_command}"
            return StoreError(what, where=where, fix=fix)
        if self.dataset in SHIPPED_SENTENCES:
            file, first = self.dataset, ""
        else:
            file, first = "FILE.json", "write FILE.json, {class: list of sentences}, then: "
        asked = {"sentences": file}
        return NotExtractedError(what, where=where, header=self.header, options=asked, first=first)

    @property
    def aux_command(self) -> str:
        """What to do for a second encoder where there is none."""
        other = next(name for name in OTHERS if name != self.encoder["name"])
        name = f"{other}@openai"
        if self.imported:
            return "encode the pictures, or in Python: Features.of(X, y, ..., aux=A)"
        command = self.header.command(model=other, pretrained="openai")
        return f"{command}  # then add {argument('aux', name)}"

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

    def store(self, split: str, layer: str = "image", views: int | None = None) -> Store:
        """The store of one split and layer.

        Args:
            split: `train`, `val` or `test`.
            layer: one of `LAYERS`.
            views: how many augmented views of each picture it must have at least, of which view 0
                is the picture as it is; None stands for the picture alone.

        Raises:
            StoreError: there is none, or it cannot be used.
        """
        if views is None:
            found = self.images.get((split, layer))
        else:
            own = [w for at, of, w in self.views if (at, of) == (split, layer) and w >= views]
            found = self.views[split, layer, min(own)] if own else None
        if found is None and self.of_boxes and (split, layer) not in self.problems:
            raise self._of_boxes_alone(split, layer if views is None else layer + VIEWS)
        if found is None:
            if views is not None and split != VIEWED:
                raise StoreError(
                    f"views are kept of split {VIEWED} alone, not of {split}",
                    where=f"data set {self.dataset}, encoder {self.name}",
                    fix="use a method that answers for the pictures as they are",
                )
            what = f"{layer} features" if views is None else f"{views} views of layer {layer}"
            place = (split, layer if views is None else layer + VIEWS)
            raise self.problems.get(place) or self._missing(
                f"there are no {what} of split {split}",
                can_be_imported=place[1] == "image",
                views=views,
                layers=layer if layer == PATCHES else None,
            )
        return found

    def part(self, name: str) -> Arrays:
        """A frozen part of the encoder: arrays by name.

        `projection` [E, D] and `projection-bias` [D] map layer `pre-projection` to layer `image`;
        `text-projection` [d, D] is the last map of the text tower: each is one array of its own
        name. `tower` is the text transformer, `tokens` the class names as that reads them: see
        `encoders.text_tower`.

        Raises:
            StoreError: there is none, or it cannot be used.
        """
        arrays = self.part_store(name).load()
        return {
            array.removeprefix(f"{name}."): x
            for array, x in arrays.items()
            if array.partition(".")[0] == name
        }

    def part_store(self, name: str) -> PartStore:
        """The store that a frozen part of the encoder lies in; it is not read.

        Raises:
            StoreError: there is none, or it cannot be used.
        """
        for store in self.parts:
            if any(array.partition(".")[0] == name for array in store.names):
                return store
        kind = _KINDS.get(name, ENCODER)
        if kind == ENCODER and any(store.kind == ENCODER for store in self.parts):
            raise StoreError(
                f"this encoder has no {name}",
                where=f"encoder {self.name}",
                fix="use a method that does not read it, or another encoder: --model NAME",
            )
        raise self.problems.get((NO_SPLIT, kind)) or self._missing(
            f"there is no part {name} of the encoder", layers=None if kind == ENCODER else TOWER
        )

    def _of_boxes_alone(self, split: str, layer: str) -> StoreError:
        """The error of what no extraction of boxes makes."""
        where = f"data set {self.dataset}, encoder {self.name}"
        if split == REGIONS_SPLIT:
            what, fix = f"of boxes there are no {layer} features", "use a method that reads image"
            return StoreError(what, where=where, fix=f"{fix} features alone: cacheclip methods")
        return StoreError(
            f"these are boxes, and boxes have no split {split}",
            where=where,
            fix=f"cacheclip detect --train {self.dataset} --test SET{self.option}",
        )

    def _missing(
        self, what: str, *, can_be_imported: bool = False, **options: str | int | None
    ) -> StoreError:
        """The error of what an extraction with these options makes, where they are not None."""
        where = f"data set {self.dataset}, encoder {self.name}"
        if self.imported and not can_be_imported:
            fix = "use a method that does not need it, or pictures: cacheclip extract --dataset SET"
            return StoreError(what, where=where, fix=fix)
        asked = {name: value for name, value in options.items() if value is not None}
        return NotExtractedError(what, where=where, header=self.header, options=asked)

    def doubts(self, labels_file: Path) -> Iterator[str]:
        """A line for each file that is not as it was written and is believed all the same."""
        command = self.extract_command
        if self.labels.corrected:
            yield (
                f"labels and class names of {self.dataset} were corrected by hand: {labels_file}; "
                f"for those of the data: {repair(labels_file, command)}"
            )
        stores: list[Store | TextStore | PartStore] = [*self.images.values(), *self.views.values()]
        sentences = [] if self.sentences is None else [self.sentences]
        for store in (*stores, *self.texts.values(), *sentences, *self.parts):
            if not store.header.whole:
                file = store.path / KEY_FILE
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
        others = [
            own for (at, *_), own in (*self.images.items(), *self.views.items()) if at == split
        ]
        stores = [*others, self.store(split)]  # the image's word is the last
        return {failure.row: failure for own in stores for failure in own.failures()}
