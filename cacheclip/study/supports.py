"""The support sets of a study on one data set, by the procedure that was asked for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from cacheclip.draws import Draw, Fewer, Pool, Shots, coop, few_shot, given, listed
from cacheclip.errors import InputError, argument, some
from cacheclip.store.labels import Labels
from cacheclip.store.scope import Scope
from cacheclip.store.source import Source

RANKED, COOP, GIVEN, LISTED = "ranked", "coop", "given", "file"  # procedures

Listed = Mapping[tuple[int, int], tuple[Sequence[str], Sequence[str]]]


class Supports:
    """Draws, each made once.

    Attributes:
        procedure: how they are made.
        listed: (seed, shots) -> ids of the support and of the validation pictures, of a file.
    """

    def __init__(
        self,
        source: Source,
        pool: Callable[[str], Pool],
        failed: Callable[[str], Collection[int]],
    ) -> None:
        """Draws of a feature set.

        Args:
            source: the feature set.
            pool: split -> its pictures that have features.
            failed: split -> the rows of those that have none.
        """
        self.procedure = RANKED
        self.listed: Listed = {}
        self._source = source
        self._pool = pool
        self._failed = failed
        self._made: dict[tuple[Shots, int, Fewer], Draw] = {}

    def draw(self, shots: Shots, seed: int, fewer: Fewer) -> Draw:
        """The draw of that seed.

        Raises:
            InputError: there is none.
        """
        asked = shots, seed, fewer
        if asked not in self._made:
            self._made[asked] = self._draw(shots, seed, fewer)
        return self._made[asked]

    def _draw(self, shots: Shots, seed: int, fewer: Fewer) -> Draw:
        names, where = self._source.labels.classnames, f"data set {self._source.dataset}"
        if self.procedure == COOP:
            pools = self._whole("train"), self._whole("val")
            every = self._all.classnames
            draw = coop(*pools, every, shots, seed, where=where, fewer=fewer)
            return self._encoded(self._cut(draw))
        pools = self._pool("train"), self._pool("val")
        if self.procedure == RANKED:
            return few_shot(*pools, names, shots, seed, where=where, fewer=fewer)
        there = self._source.given_draws if self.procedure == GIVEN else self.listed
        if not isinstance(shots, int) or (seed, shots) not in there:
            came = "came with this set" if self.procedure == GIVEN else "is in the file"
            what = f"no draw of seed {seed} and {argument('shots', shots)} {came}"
            raise InputError(what, where=where, fix=f"use {argument('draw', RANKED)}")
        if self.procedure == GIVEN:
            rows = self._source.given_draws[seed, shots]
            return given(*pools, names, rows, shots, seed, where=where)
        ids, val_ids = (
            self._of_these(own, split)
            for own, split in zip(self.listed[seed, shots], ("train", "val"), strict=True)
        )
        self._refuse_others(ids, "train")
        self._refuse_others(val_ids, "val")
        return listed(*pools, names, ids, val_ids, shots, seed, where=where)

    def _refuse_others(self, ids: Sequence[str], split: str) -> None:
        """Refuse a list that names pictures of another split."""
        strange = set(ids) - set(self._pool(split).ids)
        others = set(self._source.labels.splits) - {split} if strange else set()
        for other in sorted(others):
            if of_other := sorted(strange & set(self._source.store(other).ids())):
                raise InputError(
                    f"the file's draw names images of split {other}: {some(of_other)}",
                    where=f"data set {self._source.dataset}, split {split}",
                    fix=f"name images of split {split} there, or use {argument('draw', RANKED)}",
                )

    def _of_these(self, ids: Sequence[str], split: str) -> Sequence[str]:
        """The ids of a list that are not of classes left out."""
        if not isinstance(self._source, Scope) or not ids:
            return ids
        own = self._source.store(split).ids()
        others = {own[row] for row in self._source.others(split)}
        return [name for name in ids if name not in others]

    @property
    def _all(self) -> Labels:
        """The labels of all classes: a stream that runs through them depends on all of them."""
        source = self._source
        return source.whole.labels if isinstance(source, Scope) else source.labels

    def _cut(self, draw: Draw) -> Draw:
        """What a draw among all classes has of these, class by class as it came."""
        if not isinstance(self._source, Scope):
            return draw
        number = {label: k for k, label in enumerate(self._source.classes)}
        names = self._source.labels.classnames
        support = [k for k, label in enumerate(draw.support_labels) if label in number]
        val = [k for k, label in enumerate(draw.val_labels) if label in number]
        return replace(
            draw,
            support=tuple(draw.support[k] for k in support),
            support_labels=tuple(number[draw.support_labels[k]] for k in support),
            support_ids=tuple(draw.support_ids[k] for k in support),
            val=tuple(draw.val[k] for k in val),
            val_labels=tuple(number[draw.val_labels[k]] for k in val),
            val_ids=tuple(draw.val_ids[k] for k in val),
            short=tuple(own for own in draw.short if own[0] in names),
        )

    def _whole(self, split: str) -> Pool:
        """All pictures of a split in the order of the set, those without features among them."""
        pool = self._pool(split)
        if not pool.ids or not (self._failed(split) or isinstance(self._source, Scope)):
            return pool
        ids = self._source.store(split).ids()
        return Pool(ids, self._all.splits[split].labels, range(len(ids)))

    def _encoded(self, draw: Draw) -> Draw:
        """The draw, unless pictures of it could not be encoded."""
        taken = [("train", draw.support, draw.support_ids), ("val", draw.val, draw.val_ids)]
        lost = [
            own
            for split, rows, ids in taken
            for row, own in zip(rows, ids, strict=True)
            if row in self._failed(split)
        ]
        if lost:
            raise InputError(
                f"CoOp's draw of seed {draw.seed} and {draw.shots} shots takes pictures "
                f"that could not be encoded: {some(lost)}",
                where=f"data set {self._source.dataset}",
                fix=f"use {argument('draw', RANKED)}, or mend them and: "
                f"{self._source.extract_command}",
            )
        return draw
