"""Variants and what they learned: what a fit gives, and what is cut, settled and served."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cacheclip.engine import memory, stack as engine
from cacheclip.methods.base import Method, Params, Settings
from cacheclip.study.data import SetData
from cacheclip.study.plan import Variant
from cacheclip.task import Query


@dataclass(frozen=True)
class Heads:
    """V variants that share static settings, with their params: one is not cut without the other.

    Attributes:
        method: with its static settings.
        variants: V runs.
        params: tensors [V, ...].
        precision: of the steps that trained them; None where there were none.
        shared: names of the params that are one copy behind all variants, before and after a cut.
    """

    method: Method
    variants: tuple[Variant, ...]
    params: Params
    precision: str | None
    shared: frozenset[str]

    @classmethod
    def of(
        cls, method: Method, variants: Sequence[Variant], params: Params, precision: str | None
    ) -> "Heads":
        """Heads as a fit leaves them."""
        shared = (name for name, x in params.items() if len(x) > 1 and x.stride(0) == 0)
        return cls(method, tuple(variants), params, precision, frozenset(shared))

    @property
    def settings(self) -> Settings:
        """Those of the one variant that these are."""
        (variant,) = self.variants
        return variant.settings

    @property
    def seeds(self) -> list[int]:
        """One a variant."""
        return [variant.seed for variant in self.variants]

    def answers(self, query: Query, limit: int) -> Tensor:
        """Logits [V, n, C] of pictures, a stream of them in the order of each variant's seed."""
        parts = engine.logits_in_parts(self.method, self.params, query, limit, self.seeds)
        return torch.cat([logits for _, _, logits in parts], 1)

    def finite(self) -> Tensor:
        """Which variants have only finite numbers in their params: [V] bool."""
        return engine.finite(self.method, self.params)

    def where(self, keep: Tensor) -> "Heads":
        """The variants that a mask [V] names."""
        return self._at(keep.nonzero().flatten().tolist())

    def one(self, v: int) -> "Heads":
        """One variant by its number; it keeps no other alive."""
        return self._at([v])

    def of_candidate(self, candidate: Variant) -> "Heads":
        """The variants that decide about one; they keep no other alive."""
        own = [v for v, variant in enumerate(self.variants) if variant.candidate is candidate]
        return self._at(own)

    def standing_for(self, own: Mapping[Variant, Variant]) -> "Heads":
        """Those that come out as other variants do, under the name of these."""
        there = [v for v, variant in enumerate(self.variants) if variant in own]
        variants = tuple(own[self.variants[v]] for v in there)
        return replace(self._at(there), variants=variants)

    def by_cell(self) -> Iterator["Heads"]:
        """The variants of each cell."""
        cells: dict[int, list[int]] = {}
        for v, variant in enumerate(self.variants):
            cells.setdefault(id(variant.cell), []).append(v)
        for rivals in cells.values():
            yield self._at(rivals)

    def part(self, first: int, last: int) -> "Heads":
        """The variants first..last-1: a view."""
        return self._cut(self.variants[first:last], lambda x: x[first:last])

    def settled(self, settings: Settings) -> "Heads":
        """Variants of one candidate with the numbers that its search found, there and in params."""
        asked = self.variants[0].settings
        found = {name: value for name, value in settings.items() if asked[name] != value}
        params = self.params | {
            name: torch.full_like(self.params[name], float(value)) for name, value in found.items()
        }
        variants = tuple(replace(variant, settings=settings) for variant in self.variants)
        return replace(self, variants=variants, params=params)

    @classmethod
    def cat(cls, heads: Sequence["Heads"]) -> "Heads":
        """Heads of the same static settings, one after the other."""
        variants = tuple(variant for own in heads for variant in own.variants)
        copies = {name: {own.params[name].data_ptr() for own in heads} for name in heads[0].params}
        shared = {
            name
            for name, places in copies.items()
            if len(places) == 1 and all(name in own.shared for own in heads)
        }
        params = {
            name: x[0].expand(len(variants), *x.shape[1:])
            if name in shared
            else torch.cat([own.params[name] for own in heads])
            for name, x in heads[0].params.items()
        }
        return replace(heads[0], variants=variants, params=params, shared=frozenset(shared))

    def _at(self, numbers: Sequence[int]) -> "Heads":
        """Variants by their numbers, copied unless they are all there are."""
        if len(numbers) == len(self.variants):
            return self
        variants = [self.variants[v] for v in numbers]
        index = torch.tensor(numbers, dtype=torch.int64)
        return self._cut(variants, lambda x: x.index_select(0, index.to(x.device)))

    def _cut(self, variants: Sequence[Variant], cut: Callable[[Tensor], Tensor]) -> "Heads":
        params = {
            name: x[0].expand(len(variants), *x.shape[1:]) if name in self.shared else cut(x)
            for name, x in self.params.items()
        }
        return replace(self, variants=tuple(variants), params=params)


def fit(
    method: Method,
    variants: Sequence[Variant],
    data: SetData,
    progress: Callable[[float], None] = lambda share: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Iterator[Heads]:
    """Solve or train variants of one stack, as many at a time as memory holds.

    Args:
        method: with the static settings that they share.
        variants: they have equally many support pictures.
        data: the feature set.
        progress: called with the share that is done.
        notice: called with a line for the user.
    """
    draws, settings = [v.draw for v in variants], [v.settings for v in variants]
    task = data.task(type(method), draws, settings)
    seeds = [v.seed for v in variants]
    precision = engine.precision(method, task)
    held = data.held(method, [d for d in draws if d]) if method.stops and all(draws) else None
    fits = engine.fit(method, task, seeds, progress, data.limit, notice, held)
    for first, last, params in fits:
        yield Heads.of(method, variants[first:last], params, precision)


def together(heads: Sequence[Heads], limit: int) -> Iterator[Heads]:
    """Single heads side by side: those of one stack whose params fit the working memory.

    Args:
        heads: of one variant each, in any order.
        limit: working memory in bytes.
    """
    stacks: dict[int, list[Heads]] = {}
    for own in heads:
        stacks.setdefault(id(own.method), []).append(own)
    for members in stacks.values():
        step = max(1, limit // max(1, memory.size(members[0].params)))
        for first in range(0, len(members), step):
            yield Heads.cat(members[first : first + step])


def served(heads: Heads, data: SetData) -> Heads:
    """The same variants with what `logits` reads, made of what they learned for those classes."""
    if type(heads.method).head is Method.head:
        return heads  # it reads what was learned, and no task has to be made anew to say so
    draws, settings = [v.draw for v in heads.variants], [v.settings for v in heads.variants]
    task = data.task(type(heads.method), draws, settings)
    params = engine.head(heads.method, heads.params, task)
    return Heads.of(heads.method, heads.variants, params, heads.precision)


def held_out(
    method: Method, split: str, rows: Sequence[int], labels: Sequence[int], data: SetData
) -> tuple[Query, Tensor]:
    """Pictures of `train` or `val` and their labels [n]; they are the first n of the query.

    A transductive method answers for the test pictures together with them: without these it would
    be another problem.
    """
    query, known = data.pictures(method, split, rows, labels)
    if method.setting == "transductive" and data.tested:
        query = query.beside(data.test_query(method))
    return query, known
