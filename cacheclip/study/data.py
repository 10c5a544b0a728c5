"""What a study reads of one data set, as tensors on a device.

Test labels are sealed: they are no pool, and `open_test_labels` is for scoring alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

from cacheclip.answers import Classes, class_type
from cacheclip.draws import Draw, Fewer, Pool, Shots
from cacheclip.engine.stack import logits_in_parts
from cacheclip.errors import ProtocolError, StoreError
from cacheclip.files.disk import digest
from cacheclip.methods.base import Method, Reads, Settings, Value
from cacheclip.methods.zero_shot import ZeroShot
from cacheclip.store.features import VIEWED, VIEWS
from cacheclip.store.not_extracted import all_of
from cacheclip.store.scope import name_of, names_of
from cacheclip.store.source import AUX, About, Source, failures_of
from cacheclip.study.layers import IMAGE, Layers, layers_read, views_of
from cacheclip.study.supports import Supports
from cacheclip.study.texts import TOKENS, Texts
from cacheclip.task import Query, Task, Unread

TEST = "test"


class SetData:
    """Reads the rows that are used, once each, when one of them is first asked for.

    They stay in host memory; the rows that a stack reads, and the test pictures, go to the device.
    A row is good where the picture has the features of every layer: so all methods draw from, and
    are tested on, the same pictures.
    """

    def __init__(self, source: Source, device: torch.device, limit: int) -> None:
        self.features: About = source  # their labels are asked for here and nowhere else
        self._source = source
        self.device = device
        self.limit = limit  # working memory in bytes
        self.supports = Supports(source, self.pool, self._failed_rows)
        self.texts = Texts(source, device)
        self._layers = Layers(source, device, limit)
        self._good: dict[str, tuple[Sequence[int], list[str]]] = {}
        self._failed: dict[str, frozenset[int]] = {}
        self._test: dict[tuple[str, int], Tensor | Unread] = {}
        self._pools: dict[str, Pool] = {}
        self._parts: dict[str, Any] = {}

    @property
    def classnames(self) -> Sequence[str]:
        """One name a class, in label order."""
        return self._source.labels.classnames

    @property
    def labels_digest(self) -> str:
        """Hash of class names, samples and their labels."""
        return self._source.labels.digest

    @property
    def labels_corrected(self) -> bool:
        """Whether somebody changed them by hand."""
        return self._source.labels.corrected

    @property
    def classes(self) -> str:
        """What a row calls the classes that count."""
        return name_of(self._source)

    @property
    def named(self) -> list[str] | None:
        """The names of these, where that does not say which they are."""
        return names_of(self._source)

    @property
    def logit_scale(self) -> float:
        """The encoder's exp(logit_scale)."""
        return float(self.features.encoder["logit_scale"])

    @property
    def tested(self) -> bool:
        """Whether there are test pictures."""
        return bool(self.test_ids)

    @cached_property
    def test_id(self) -> str:
        """Hash of the ordered ids of the good test pictures."""
        return digest(self.test_ids)[:16]

    @property
    def test_ids(self) -> list[str]:
        """The ids of the good test pictures, in order."""
        return self._good_rows(TEST)[1]

    @cached_property
    def zero_shot(self) -> Classes | None:
        """The class [n] that the text alone gives each good test picture; None without text."""
        return self.zero_shot_of(self, range(len(self.classnames)))

    def zero_shot_of(self, other: "SetData", columns: Sequence[int]) -> Classes | None:
        """The same of the good test pictures of another set, whose classes are `columns` here."""
        if self.features.text is None:
            return None
        method = ZeroShot()
        params = method.solve(self.task(ZeroShot, [None], [{}]))
        params["weight"] = params["weight"][:, list(columns)]
        query = other.test_query(method)
        parts = [x[0].argmax(-1) for _, _, x in logits_in_parts(method, params, query, self.limit)]
        return torch.cat(parts).cpu().numpy().astype(class_type(len(columns)))

    def good_rows(self, split: str) -> Sequence[int]:
        """The rows of a split whose pictures could be encoded."""
        return self._good_rows(split)[0]

    def failed(self, split: str) -> int:
        """How many pictures of a split could not be encoded."""
        return len(self._failed_rows(split))

    def pool(self, split: str) -> Pool:
        """What support (`train`) or validation (`val`) images are drawn from.

        Raises:
            ProtocolError: it is asked for test pictures.
        """
        if split == TEST:
            raise ProtocolError(
                "test labels were asked for before the score",
                where=f"data set {self.features.dataset}",
                fix="choose on split val; this is a bug of what asked",
            )
        if split not in self._pools:
            rows, ids = self._good_rows(split)
            self._pools[split] = Pool(ids, self._labels(split, rows), rows)
        return self._pools[split]

    def open_test_labels(self) -> Sequence[int]:
        """The labels of the good test pictures, in order: for scoring, after every choice."""
        return self._labels(TEST, self.good_rows(TEST))

    def _labels(self, split: str, rows: Sequence[int]) -> Sequence[int]:
        labels = self._source.labels.splits[split].labels if rows else []
        return labels if len(labels) == len(rows) else [labels[row] for row in rows]

    @property
    def per_class(self) -> int:
        """Training images a class, on average: what `all` comes to."""
        labelled = sum(label >= 0 for label in self.pool("train").labels)
        return max(1, round(labelled / len(self.classnames)))

    def draw(self, shots: Shots, seed: int, fewer: Fewer = "error") -> Draw:
        """The few-shot draw of that seed."""
        return self.supports.draw(shots, seed, fewer)

    def expect(self, draws: Iterable[Draw], *, chooses: bool) -> None:
        """Say which draws will be used, so that their rows are read together.

        Args:
            draws: all of them.
            chooses: whether their validation images are used too.
        """
        for draw in draws:
            self._layers.expect("train", draw.support)
            self._layers.expect("val", draw.val if chooses else ())

    def held(self, method: Method, draws: Sequence[Draw]) -> Task | None:
        """The validation pictures of V draws, equally many, as the method answers for them.

        None where there are none.
        """
        if not any(draw.val for draw in draws):
            return None
        reads = method.reads
        pool, rows = self._pooled("val", reads.query, [draw.val for draw in draws], 1)
        return Task(
            pool=pool,
            rows=rows,
            labels=self._index([draw.val_labels for draw in draws]),
            text={},
            settings={},
            logit_scale=self.logit_scale,
            n_classes=len(self.classnames),
            encoder=self.encoder(reads),
        )

    def task(
        self, method: type[Method], draws: Sequence[Draw | None], settings: Sequence[Settings]
    ) -> Task:
        """The support sets of V variants; a draw of None is an empty support set."""
        built = method.of(settings[0])
        reads = built.reads
        supports = [d.support if d else () for d in draws]
        pool, rows = self._pooled("train", reads.support, supports, built.views)
        return Task(
            pool=pool,
            rows=rows,
            labels=self._index([d.support_labels if d else () for d in draws]),
            text=self.text(reads),
            settings=method.numbers_of(settings, self.device),
            logit_scale=self.logit_scale,
            n_classes=len(self.classnames),
            views=built.views,
            encoder=self.encoder(reads),
        )

    def _pooled(
        self, split: str, layers: Sequence[str], drawn: Sequence[Sequence[int]], views: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Layers [R W, ...] of R rows that are drawn, and V draws as numbers of those [V, n]."""
        used = sorted({row for rows in drawn for row in rows})
        position = {row: k for k, row in enumerate(used)}
        pool = {name: self._layers.rows(split, name, used, views) for name in layers}
        if views > 1:
            pool = {name: x.flatten(0, 1) for name, x in pool.items()}
        pool = {name: x.to(self.device) for name, x in pool.items()}
        return pool, self._index([[position[row] for row in rows] for rows in drawn])

    def lacking(self, reads: Reads, views: Iterable[Value] = (1,)) -> StoreError | None:
        """All that is missing of what a method reads beside the layer every set has; or None.

        Args:
            reads: what it reads.
            views: counts of each support picture's; a store of the most serves the others too.
        """
        most = max(int(count) for count in views)
        errors: dict[str, StoreError] = {}  # layer or part -> why the first split lacks it
        for split, layer, own in self._places_read(reads, most):
            try:
                self._layers.store(split, layer, own)
            except StoreError as error:
                errors.setdefault(layer, error)
        for part in _parts_read(reads):
            try:
                self._source.part_store(part)
            except StoreError as error:
                errors[part] = error
        if no_text := self.texts.lacking(reads):
            errors["text"] = no_text
        return all_of([*errors.values()]) if errors else None

    def _places_read(self, reads: Reads, views: int) -> Iterator[tuple[str, str, int]]:
        """Split, layer and views of what a method reads beside the layer that every set has."""
        asked = {split: layers_read(reads, split, views) for split in self.labelled_splits}
        if self.labelled_splits == [VIEWED]:  # nothing else says whether it can ever answer
            asked[VIEWED] += layers_read(reads, TEST, views)
        for split, places in asked.items():
            yield from ((split, *place) for place in places if place != (IMAGE, 1))

    def untestable(self, reads: Reads, views: Iterable[Value] = (1,)) -> StoreError | None:
        """What is missing of the test pictures that a fit on other classes answers for; or None."""
        try:
            self.test_stores(reads, max(int(count) for count in views))
        except StoreError as error:
            return error
        return None

    def text(self, reads: Reads) -> dict[str, Tensor]:
        """The text ensembles, and the class names as tokens, that are read."""
        return {
            name: self._part(name) if name == TOKENS else self.texts.of(name) for name in reads.text
        }

    def encoder(self, reads: Reads) -> dict[str, Any]:
        """The frozen parts of the encoder that are read."""
        return {name: self._part(name) for name in reads.encoder}

    def _part(self, name: str) -> Any:
        """A part as one tensor, or as tensors by name where it has several arrays."""
        if name not in self._parts:
            arrays = self._source.part(name)
            tensors = {own: torch.from_numpy(x).to(self.device) for own, x in arrays.items()}
            self._parts[name] = tensors.get(name, tensors)
        return self._parts[name]

    @property
    def labelled_splits(self) -> list[str]:
        """The splits that have pictures."""
        return [name for name, split in self._source.labels.splits.items() if len(split.labels)]

    def whole_task(self, method: type[Method], settings: Settings) -> Task:
        """One variant that learns from the labelled pictures of all splits, test included."""
        held = {split: self._held(split) for split in self.labelled_splits}
        labels = [label for _, own in held.values() for label in own]
        empty = self.task(method, [None], [settings])
        pool = {
            name: torch.cat([self._layers.rows(split, name, own[0]) for split, own in held.items()])
            for name in empty.pool
        }
        return replace(
            empty,
            pool={name: x.to(self.device) for name, x in pool.items()},
            rows=torch.arange(len(labels), device=self.device)[None],
            labels=self._index([labels]),
        )

    def _held(self, split: str) -> tuple[Sequence[int], Sequence[int]]:
        """Rows and labels of all labelled pictures of a split."""
        if split == TEST:
            return self.good_rows(TEST), self.open_test_labels()
        return self.pool(split).held[:2]

    def pictures(
        self, method: Method, split: str, rows: Sequence[int], labels: Sequence[int]
    ) -> tuple[Query, Tensor]:
        """Pictures of `train` or `val` by their rows, and their labels [n]."""
        layers = {
            name: self._layers.asked(split, name, rows, views_of(name, method))
            for name in method.reads.query
        }
        query = Query(layers, self.encoder(method.reads))
        return query, torch.tensor(labels, device=self.device)

    def test_query(self, method: Method, encoder: Mapping[str, Any] | None = None) -> Query:
        """All good test pictures, beside frozen parts of the encoder: by default the set's own."""
        layers = {}
        for name in method.reads.query:
            own = name, views_of(name, method)
            if own not in self._test:
                self._test[own] = self._layers.asked(TEST, name, self.good_rows(TEST), own[1])
            layers[name] = self._test[own]
        return Query(layers, self.encoder(method.reads) if encoder is None else encoder)

    def encoders(self, reads: Reads) -> list[str]:
        """MODEL@PRETRAINED of the encoders that a row reads, the first of them the set's own."""
        aux = self.features.aux
        second = any(name.startswith(AUX) for name in (*reads.support, *reads.query))
        return [self.features.name, *([aux.name] if aux and second else [])]

    def stores(
        self, reads: Reads, splits: Sequence[str], views: Collection[int] = (1,)
    ) -> dict[str, str]:
        """The key digests of what a row reads: `split/layer` or `split/layer/views` -> digest.

        Args:
            reads: what it reads.
            splits: of these.
            views: every count that competes; where several are more than one, each is at
                `split/layer/views/COUNT`.
        """
        several = sum(count > 1 for count in views) > 1
        read = {}
        for split, count in product(sorted(splits), views):
            for layer, own in layers_read(reads, split, count):
                kind = "" if own == 1 else f"{VIEWS}/{own}" if several else VIEWS
                read[f"{split}/{layer}{kind}"] = self._layers.store(split, layer, own).digest
        read |= self.texts.stores(reads)
        return read | {name: self._source.part_store(name).digest for name in _parts_read(reads)}

    def test_stores(self, reads: Reads, views: int) -> dict[str, str]:
        """The same of the test pictures alone."""
        return {
            f"{TEST}/{layer}{VIEWS if own > 1 else ''}": self._layers.store(TEST, layer, own).digest
            for layer, own in layers_read(reads, TEST, views)
        }

    def _good_rows(self, split: str) -> tuple[Sequence[int], list[str]]:
        """Rows and ids of the good pictures of a split."""
        if split not in self._good:
            if split not in self._source.labels.splits:
                return [], []
            store = self._source.store(split)
            bad = self._failed_rows(split)
            if split == TEST:  # a picture without a label tests nothing
                bad |= self._source.labels.splits[split].unlabelled
            ids = store.ids()
            rows: Sequence[int] = range(store.rows)
            if bad:
                rows = [row for row in rows if row not in bad]
                ids = [ids[row] for row in rows]
            self._good[split] = rows, ids
        return self._good[split]

    def _failed_rows(self, split: str) -> frozenset[int]:
        """The rows of a split that lack the features of some layer."""
        if split not in self._failed:
            self._failed[split] = frozenset(failures_of(self._source, split))
        return self._failed[split]

    def _index(self, rows: Sequence[Sequence[int]]) -> Tensor:
        shaped = torch.tensor(rows, dtype=torch.int64).view(len(rows), len(rows[0]))
        return shaped.to(self.device)


def _parts_read(reads: Reads) -> tuple[str, ...]:
    """The stored parts of the encoder that are read, the class names as tokens among them."""
    return (*reads.encoder, *(name for name in reads.text if name == TOKENS))
