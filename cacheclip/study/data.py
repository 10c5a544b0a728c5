"""The cached layers of one feature set. Test labels are not among what it hands out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from cacheclip.answers import Classes, class_type
from cacheclip.draws import Draw, Fewer, Pool, Shots, few_shot, given
from cacheclip.engine.stack import logits_in_parts
from cacheclip.errors import InputError, StoreError
from cacheclip.files.disk import digest
from cacheclip.methods.base import Method, Settings
from cacheclip.methods.zero_shot import ZeroShot
from cacheclip.store.home import FeatureSet
from cacheclip.study.layers import Layers, store_layer
from cacheclip.task import Query, Task, class_text

RANKED, GIVEN = "ranked", "given"  # sampling procedures of support sets


class SetData:
    """Reads the rows that are used, once each, when one of them is first asked for.

    They stay in host memory; the rows that a stack reads, and the test pictures, go to the device.
    A row is good where the picture has the features of every layer: so all methods draw from, and
    are tested on, the same pictures.
    """

    def __init__(self, features: FeatureSet, device: torch.device, limit: int) -> None:
        self.features = features
        self.device = device
        self.limit = limit  # working memory in bytes
        self.draws_are = RANKED
        self._draws: dict[tuple[Shots, int, Fewer], Draw] = {}
        self._layers = Layers(features)
        self._good: dict[str, tuple[Sequence[int], list[str]]] = {}
        self._failed: dict[str, frozenset[int]] = {}
        self._test: dict[str, Tensor] = {}
        self._pools: dict[str, Pool] = {}

    @property
    def classnames(self) -> Sequence[str]:
        """One name a class, in label order."""
        return self.features.labels.classnames

    @property
    def logit_scale(self) -> float:
        """The encoder's exp(logit_scale)."""
        return float(self.features.encoder["logit_scale"])

    @cached_property
    def test_id(self) -> str:
        """Hash of the ordered ids of the good test pictures."""
        return digest(self.test_ids)[:16]

    @property
    def test_ids(self) -> list[str]:
        """The ids of the good test pictures, in order."""
        return self._good_rows("test")[1]

    @cached_property
    def zero_shot(self) -> Classes | None:
        """The class [n] that the text alone gives each good test picture; None without text."""
        if self.features.text is None:
            return None
        method = ZeroShot()
        params = method.solve(self.task(ZeroShot, [None], [{}]))
        query = self.test_query(method)
        parts = [x[0].argmax(-1) for _, _, x in logits_in_parts(method, params, query, self.limit)]
        return torch.cat(parts).cpu().numpy().astype(class_type(len(self.classnames)))

    @cached_property
    def _per_prompt(self) -> Tensor:
        if self.features.text is None:
            raise StoreError(
                "this feature set has no text features",
                where=f"data set {self.features.dataset}",
                fix=self.features.text_command,
            )
        return torch.from_numpy(self.features.text.load()).to(self.device)

    def good_rows(self, split: str) -> Sequence[int]:
        """The rows of a split whose pictures could be encoded."""
        return self._good_rows(split)[0]

    def failed(self, split: str) -> int:
        """How many pictures of a split could not be encoded."""
        return len(self._failed_rows(split))

    def pool(self, split: str) -> Pool:
        """What support (`train`) or validation (`val`) images are drawn from."""
        if split not in self._pools:
            rows, ids = self._good_rows(split) if split in self.features.labels.splits else ([], [])
            labels = self.features.labels.splits[split].labels if rows else []
            own = labels if len(labels) == len(rows) else [labels[row] for row in rows]
            self._pools[split] = Pool(ids, own, rows)
        return self._pools[split]

    @property
    def per_class(self) -> int:
        """Training images a class, on average: what `all` comes to."""
        labelled = sum(label >= 0 for label in self.pool("train").labels)
        return max(1, round(labelled / len(self.classnames)))

    def draw(self, shots: Shots, seed: int, fewer: Fewer = "error") -> Draw:
        """The few-shot draw of that seed."""
        if self.draws_are == GIVEN:
            return self._given(shots, seed)
        asked = shots, seed, fewer
        if asked not in self._draws:
            self._draws[asked] = few_shot(
                self.pool("train"),
                self.pool("val"),
                self.classnames,
                shots,
                seed,
                where=f"data set {self.features.dataset}",
                fewer=fewer,
            )
        return self._draws[asked]

    def _given(self, shots: Shots, seed: int) -> Draw:
        there = self.features.given_draws
        where = f"data set {self.features.dataset}"
        if not isinstance(shots, int) or (seed, shots) not in there:
            what = f"no draw of seed {seed} and {shots} shots came with this set"
            raise InputError(what, where=where, fix="use --draw ranked")
        pools = self.pool("train"), self.pool("val")
        rows = there[seed, shots]
        return given(*pools, self.classnames, rows, shots, seed, where=where)

    def expect(self, draws: Iterable[Draw], *, chooses: bool) -> None:
        """Say which draws will be used, so that their rows are read together.

        Args:
            draws: all of them.
            chooses: whether their validation images are used too.
        """
        for draw in draws:
            self._layers.expect("train", draw.support)
            self._layers.expect("val", draw.val if chooses else ())

    def task(
        self, method: type[Method], draws: Sequence[Draw | None], settings: Sequence[Settings]
    ) -> Task:
        """The support sets of V variants; a draw of None is an empty support set."""
        drawn = [d.support if d else () for d in draws]
        used = sorted({row for support in drawn for row in support})
        position = {row: k for k, row in enumerate(used)}
        return Task(
            pool={n: self._layers.rows("train", n, used).to(self.device) for n in method.needs},
            rows=self._index([[position[row] for row in support] for support in drawn]),
            labels=self._index([d.support_labels if d else () for d in draws]),
            text=class_text(self._per_prompt, method.text) if method.text else {},
            settings={
                name: torch.tensor([_number(method, name, s) for s in settings], device=self.device)
                for name in method.vector
            },
            logit_scale=self.logit_scale,
            n_classes=len(self.classnames),
        )

    @property
    def labelled_splits(self) -> list[str]:
        """The splits that have pictures."""
        return [name for name, split in self.features.labels.splits.items() if len(split.labels)]

    def whole_task(self, method: type[Method], settings: Settings) -> Task:
        """One variant that learns from the labelled pictures of all splits, test included."""
        held = {split: self.pool(split).held for split in self.labelled_splits}
        labels = [label for _, own, _ in held.values() for label in own]
        empty = self.task(method, [None], [settings])
        pool = {
            name: torch.cat([self._layers.rows(split, name, own[0]) for split, own in held.items()])
            for name in method.needs
        }
        return replace(
            empty,
            pool={name: x.to(self.device) for name, x in pool.items()},
            rows=torch.arange(len(labels), device=self.device)[None],
            labels=self._index([labels]),
        )

    def pictures(
        self, method: Method, split: str, rows: Sequence[int], labels: Sequence[int]
    ) -> tuple[Query, Tensor]:
        """Pictures of `train` or `val` by their rows, and their labels [n]."""
        layers = {n: self._layers.rows(split, n, rows).to(self.device) for n in method.needs}
        return Query(layers), torch.tensor(labels, device=self.device)

    def test_query(self, method: Method) -> Query:
        """All good test pictures."""
        for name in method.needs:
            if name not in self._test:
                rows = self._layers.rows("test", name, self.good_rows("test"))
                self._test[name] = rows.to(self.device)
        return Query({name: self._test[name] for name in method.needs})

    def stores(self, method: type[Method], splits: Sequence[str]) -> dict[str, str]:
        """The key digests of what a row of this method reads: `split/layer` -> digest."""
        layers = {store_layer(name) for name in method.needs}
        read = {
            f"{split}/{layer}": self.features.store(split, layer).digest
            for split in sorted(splits)
            for layer in sorted(layers)
        }
        if method.text and self.features.text is not None:
            read["text"] = self.features.text.digest
        return read

    def _good_rows(self, split: str) -> tuple[Sequence[int], list[str]]:
        """Rows and ids of the good pictures of a split."""
        if split not in self._good:
            store = self.features.store(split)
            bad = self._failed_rows(split)
            if split == "test":  # a picture without a label tests nothing
                bad |= self.features.labels.splits[split].unlabelled
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
            self._failed[split] = frozenset(self.features.failures(split))
        return self._failed[split]

    def _index(self, rows: Sequence[Sequence[int]]) -> Tensor:
        shaped = torch.tensor(rows, dtype=torch.int64).view(len(rows), len(rows[0]))
        return shaped.to(self.device)


def _number(method: type[Method], name: str, settings: Settings) -> float:
    """A setting's value; its default where a word stands for what will be learned or found."""
    value = settings[name]
    return float(method.defaults[name] if isinstance(value, str) else value)
