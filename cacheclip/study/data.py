"""The cached layers of one feature set as tensors on the device. Test labels are not among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cacheclip.disk import digest
from cacheclip.draws import Draw, Pool, few_shot
from cacheclip.errors import StoreError
from cacheclip.methods.base import Method, Settings
from cacheclip.store.home import FeatureSet
from cacheclip.task import Query, Task, class_text


@dataclass(frozen=True)
class SplitLayers:
    """The rows of one split whose pictures could all be encoded.

    Attributes:
        rows: positions of the good rows in the store.
        ids: the sample ids of the good rows.
        layers: layer -> [R, ...] for ALL rows of the store, on the device.
        failed: rows that are not good.
    """

    rows: list[int]
    ids: list[str]
    layers: Mapping[str, Tensor]
    failed: int


class SetData:
    """Reads each store once, when it is first asked for."""

    def __init__(self, features: FeatureSet, needs: Sequence[str], device: torch.device) -> None:
        self.features = features
        self.device = device
        self._needs = tuple(needs)
        self._splits: dict[str, SplitLayers] = {}

    @property
    def classnames(self) -> Sequence[str]:
        """One name a class, in label order."""
        return self.features.labels.classnames

    @property
    def logit_scale(self) -> float:
        """The encoder's exp(logit_scale)."""
        return float(self.features.encoder["logit_scale"])

    @cached_property
    def per_prompt(self) -> Tensor:
        """Raw text features [C, T, D]."""
        if self.features.text is None:
            raise StoreError(
                "this feature set has no text features",
                where=f"data set {self.features.dataset}",
                fix=f"run {self.features.extract_command}",
            )
        return torch.from_numpy(self.features.text.load()).to(self.device)

    @cached_property
    def pools(self) -> tuple[Pool, Pool]:
        """What support and validation images are drawn from."""
        return self._pool("train"), self._pool("val")

    def _pool(self, split: str) -> Pool:
        if split not in self.features.labels.splits:
            return Pool([], [], [])
        found = self.split(split)
        labels = self.features.labels.splits[split].labels
        return Pool(found.ids, [labels[row] for row in found.rows], found.rows)

    def draw(self, shots: int, seed: int) -> Draw:
        """The few-shot draw of that seed."""
        train, val = self.pools
        where = f"data set {self.features.dataset}"
        return few_shot(train, val, self.classnames, shots, seed, where=where)

    def split(self, split: str) -> SplitLayers:
        """The layers of a split, read on first use."""
        if split not in self._splits:
            self._splits[split] = self._read(split)
        return self._splits[split]

    def test_query(self) -> Query:
        """All good test pictures."""
        test = self.split("test")
        index = torch.tensor(test.rows, device=self.device)
        return Query({name: x[index] for name, x in test.layers.items()})

    @property
    def test_id(self) -> str:
        """Hash of the ordered ids of the good test pictures."""
        return digest(self.split("test").ids)[:16]

    def stores(self, splits: Sequence[str], *, text: bool) -> dict[str, str]:
        """The key digests of what a row reads: `split/layer` -> digest."""
        read = {
            f"{split}/{layer}": store.digest
            for (split, layer), store in sorted(self.features.images.items())
            if split in splits and layer in _layers(self._needs)
        }
        if text and self.features.text is not None:
            read["text"] = self.features.text.digest
        return read

    def task(
        self, method: type[Method], draws: Sequence[Draw | None], settings: Sequence[Settings]
    ) -> Task:
        """The support sets of V variants; a draw of None is an empty support set."""
        drawn = [d.support if d else () for d in draws]
        used = sorted({row for support in drawn for row in support})
        position = {row: k for k, row in enumerate(used)}
        layers = self.split("train").layers
        pool_rows = torch.tensor(used, dtype=torch.int64, device=self.device)
        return Task(
            pool={name: layers[name][pool_rows] for name in method.needs},
            rows=_index([[position[row] for row in support] for support in drawn], self.device),
            labels=_index([d.support_labels if d else () for d in draws], self.device),
            text=class_text(self.per_prompt, method.text) if method.text else {},
            settings={
                name: torch.tensor([float(s[name]) for s in settings], device=self.device)
                for name in method.vector
            },
            logit_scale=self.logit_scale,
            n_classes=len(self.classnames),
        )

    def val_query(self, draw: Draw) -> tuple[Query, Tensor]:
        """The validation pictures of a draw and their labels [n]."""
        rows = torch.tensor(draw.val, dtype=torch.int64, device=self.device)
        query = Query({name: x[rows] for name, x in self.split("val").layers.items()})
        return query, torch.tensor(draw.val_labels, device=self.device)

    def _read(self, split: str) -> SplitLayers:
        layers: dict[str, Tensor] = {}
        good: np.ndarray | None = None
        ids: list[str] = []
        for layer in _layers(self._needs):
            store = self.features.store(split, layer)
            loaded = store.load(normalize=layer == "image")
            good = loaded.ok if good is None else good & loaded.ok
            ids = ids or store.ids()
            layers[layer] = torch.from_numpy(loaded.features).to(self.device)
            if layer == "image" and "image-norm" in self._needs:
                layers["image-norm"] = torch.from_numpy(loaded.norm).to(self.device)[:, None]
        rows = [] if good is None else np.flatnonzero(good).tolist()
        return SplitLayers(rows, [ids[row] for row in rows], layers, len(ids) - len(rows))


def _layers(needs: Sequence[str]) -> list[str]:
    """The store layers behind what methods need: norms lie in the image store."""
    return sorted({name.removesuffix("-norm") for name in needs})


def _index(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=device).view(len(rows), len(rows[0]))
