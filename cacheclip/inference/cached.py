"""The rows of a data set that was extracted or imported, as a bundle reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.errors import InputError, StoreError, instead, some
from cacheclip.inference.identity import other_encoder, refuse_other
from cacheclip.inference.rows import Part, rows_at_once
from cacheclip.store.auxiliary import beside
from cacheclip.store.features import VIEWS
from cacheclip.store.find import matching
from cacheclip.store.home import FeatureSet, Home
from cacheclip.store.schema import IMPORTED, SPLITS
from cacheclip.store.source import AUX, NORM, failures_of, layer_of


@dataclass(frozen=True)
class Cached:
    """Splits of one feature set.

    Attributes:
        features: the set.
        splits: which of its splits, each with a row or more.
        notices: lines for the user.
    """

    features: FeatureSet
    splits: Sequence[str]
    notices: tuple[str, ...]

    @property
    def count(self) -> int:
        """Rows of all of them."""
        return sum(self.features.store(split).rows for split in self.splits)


def find_cached(
    bundle: Bundle,
    home: Home,
    wanted: str,
    model: str | None = None,
    pretrained: str | None = None,
) -> Cached:
    """The feature set that a name means, by the encoder of the bundle.

    Args:
        bundle: what will answer.
        home: where the features lie.
        wanted: a data set as `Home.find` takes it, or that, a slash and one of `SPLITS`.
        model: name of the encoder; by default the bundle's.
        pretrained: its weights.

    Raises:
        StoreError: there is no such set, its encoder is another one, or it is incomplete.
        InputError: it has no such split.
    """
    name, split = _name_and_split(home, wanted)
    _refuse_unknown(home, name)
    features, notices = _set_of(bundle, home, name, model, pretrained)
    if bundle.aux is not None:
        Classifier(bundle)  # which looks at what it says of a second encoder
    if second := bundle.second:
        other, more = _set_of(second, home, features.dataset)
        features = replace(features, aux=beside(features, other))
        notices = (*notices, *(line for line in more if line not in notices))
    have = [one for one in SPLITS if (one, "image") in features.images]
    if split is not None and split not in have:
        raise InputError(
            f"there is no split {split}",
            where=f"data set {features.dataset} (has {', '.join(have)})",
            fix=f"--on {features.dataset}, or {features.dataset}/{have[-1]}",
        )
    return Cached(features, have if split is None else [split], notices)


def _set_of(
    bundle: Bundle, home: Home, name: str, model: str | None = None, pretrained: str | None = None
) -> tuple[FeatureSet, tuple[str, ...]]:
    """The feature set of a data set by the bundle's encoder, and lines for the user."""
    own = bundle.encoder
    if model or pretrained:
        features = home.find(name, model, pretrained)
    else:
        try:
            features = home.find(name, own["name"], own["pretrained"])
        except StoreError:
            features = home.find(name)
            if IMPORTED not in (own["library"], features.encoder["library"]):
                raise
            if own["library"] != IMPORTED:
                _refuse_width(bundle, features)
                raise _of_unknown_encoder(features) from None
    notices = features.notices
    if IMPORTED in (own["library"], features.encoder["library"]):
        _refuse_width(bundle, features)
        if features.encoder["weights_sha256"] != own["weights_sha256"]:
            notices += ("imported features: that the bundle's encoder made them is yours to know",)
    else:
        refuse_other(bundle, features.encoder, features.preprocess, fix=features.extract_command)
    return features, notices


def cached_rows(bundle: Bundle, cached: Cached) -> Iterator[Part]:
    """The rows split by split, part by part; a picture that was not encoded has an error.

    Args:
        bundle: what will answer.
        cached: where the rows lie.

    Raises:
        StoreError: a layer that the bundle reads is not there, or a shard is damaged.
    """
    for split in cached.splits:
        yield from _rows_of(bundle, cached.features, split)


def learned_from(bundle: Bundle, features: FeatureSet, split: str) -> bool:
    """Whether the bundle's fit, or the choice of its settings, read rows of a split."""
    read = bundle.provenance.get("stores")
    stores = (*features.images.items(), *features.views.items())
    own = {store.digest for (at, *_), store in stores if at == split}
    return isinstance(read, dict) and not own.isdisjoint(read.values())


def _rows_of(bundle: Bundle, features: FeatureSet, split: str) -> Iterator[Part]:
    method = Classifier(bundle).method
    asked = {name.removesuffix(NORM) for name in bundle.layers}
    views = {name: method.views for name in asked if name.endswith(VIEWS)}
    stores = {name: layer_of(features, split, name, views.get(name)) for name in sorted(asked)}
    taken = method.reads.query_encoder
    encoder = {name: _tensors(features.part(name), name) for name in taken}
    failures = failures_of(features, split)
    record, names = features.labels.splits[split], features.labels.classnames
    labels = [names[label] if label >= 0 else None for label in record.labels]
    longest = max(prod(store.shape) for store in stores.values())
    ids, step = features.store(split).ids(), rows_at_once(bundle, longest)
    for first in range(0, len(ids), step):
        part = range(first, min(first + step, len(ids)))
        errors = {
            row - first: f"{failures[row].code}: {failures[row].text}"
            for row in part
            if row in failures
        }
        good = np.array([row for row in part if row not in failures], np.int64)
        found: dict[str, NDArray[np.float32]] = {}
        for layer, store in stores.items():
            read = store.read_rows(good, normalize=layer.removeprefix(AUX) == "image")
            x = read.features.reshape(len(good), *store.shape)
            if layer in views:  # a store may have more of them
                x = x[:, : views[layer]]
                x = x / np.linalg.norm(x, axis=-1, keepdims=True)
            found |= {layer: x, f"{layer}{NORM}": read.norm[:, None]}
        yield Part(
            ids=ids[part.start : part.stop],
            layers={name: found[name] for name in bundle.layers},
            errors=errors,
            labels=labels[part.start : part.stop],
            splits=[split] * len(part),
            encoder=encoder,
        )


def _tensors(arrays: Mapping[str, NDArray[Any]], name: str) -> Any:
    """A part of the encoder as one tensor, or as tensors by name where it has several arrays."""
    tensors = {own: torch.from_numpy(x) for own, x in arrays.items()}
    return tensors.get(name, tensors)


def _name_and_split(home: Home, wanted: str) -> tuple[str, str | None]:
    """A data set and, where that is no part of its name, the split behind the last slash."""
    name, _, split = wanted.rpartition("/")
    if not name or split not in SPLITS or matching(wanted, home.datasets(), home.extractions()):
        return wanted, None
    return name, split


def _refuse_unknown(home: Home, name: str) -> None:
    """Refuse a name that no data set has, where there are any."""
    (ids, closed), extractions = home.looked_through(), home.extractions()
    if not ids or closed or matching(name, ids, extractions):
        return
    dataset, _, _ = name.rpartition("/")
    known = ids
    if dataset and matching(dataset, ids, extractions):  # what follows is no split
        known = [f"{dataset}/{split}" for split in SPLITS]
    raise StoreError(
        f"there are no features of {name}",
        where=f"{home.root} (has {some(ids)})",
        fix=instead(name, known, option="on", see=f"cacheclip ls{home.option}"),
    )


def _of_unknown_encoder(features: FeatureSet) -> StoreError:
    return StoreError(
        f"the features of {features.dataset} were imported, so their encoder is not known",
        where=f"data set {features.dataset}, {features.name}",
        fix=f"if the bundle's encoder made them, add --model {features.encoder['name']}",
    )


def _refuse_width(bundle: Bundle, features: FeatureSet) -> None:
    width, own = features.encoder["embed_dim"], bundle.encoder["embed_dim"]
    if width != own:
        what = f"{features.name} gives {width} numbers, and the bundle reads {own}"
        raise other_encoder(bundle, what, fix="name a set whose features are of that encoder")
