"""Why two rows differ: what one has and the other has not is swapped, one ingredient at a time.

Each row in between is made on the cache, or taken from the log where it stands there, so that the
points of all ingredients add up to the difference. They go in one order, from the pictures to the
settings: in another order some of the points would stand elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.answers import predictions
from cacheclip.draws import ALL, Fewer, Shots
from cacheclip.errors import FitError, StoreError, UsageError
from cacheclip.methods.base import Value
from cacheclip.metrics import Z95
from cacheclip.results import DECIDES, DECIDES_IF_GIVEN, LOG, Row, rows
from cacheclip.store.features import FeatureSet
from cacheclip.store.scope import ALL as ALL_CLASSES, BASE, NEW
from cacheclip.study import next_step
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.supports import COOP, GIVEN, LISTED, RANKED
from cacheclip.study.table import Table, exact, percent

FIXED = "fixed"  # the policy under which a method runs by its constants

# What an accuracy is of: rows that differ in it are answers to different questions.
OF_ONE_TEST = ("dataset", "eval_dataset", "classes", "labels", "test_id")

MAY_DIFFER = (*DECIDES, *(name for name, _ in DECIDES_IF_GIVEN))

Right = NDArray[np.bool_]  # [n], which test pictures are told right


@dataclass(frozen=True)
class How:
    """All that a row is made from.

    Attributes:
        encoder: MODEL@PRETRAINED.
        aux: the same of the second encoder; None where none stands beside the first.
        text: the family of templates that the class text is made of; None where none is read.
        draw: the procedure, or the file of the draw.
        shots, seed, fewer: of the draw; 0 and None where nothing is drawn.
        init_seed: of the start, where it is not that of the draw.
        classes: names of those that count.
        method, recipe, select: how it is fitted and chosen.
        given: the settings that were given, with their values.
    """

    encoder: str
    aux: str | None
    text: str | None
    draw: str
    shots: Shots
    seed: int | None
    fewer: Fewer
    init_seed: int | None
    classes: tuple[str, ...]
    method: str
    recipe: str | None
    select: str
    given: Mapping[str, tuple[Value, ...]]

    @classmethod
    def of(cls, row: Row, root: Path) -> "How":
        """How a row of the log in `root` was made."""
        listed = str(root / "draws" / f"{row.draw_id}.json")
        return cls(
            encoder=f"{row.model}@{row.pretrained}",
            aux=row.encoders[1] if row.encoders[1:] else None,
            text=row.template.partition(" + ")[0] if "text" in row.stores else None,
            draw=listed if row.draw == LISTED else row.draw,
            shots=ALL if row.shots == ALL else int(row.shots),
            seed=row.seed,
            fewer="keep" if row.fewer == "keep" else "error",
            init_seed=None if row.init_seed == row.seed else row.init_seed,
            classes=() if row.classes == ALL_CLASSES else tuple(row.classnames or [row.classes]),
            method=row.method,
            recipe=row.recipe,
            select=row.select,
            given={name: tuple(values) for name, values in (row.given or {}).items()},
        )

    @property
    def of_file(self) -> bool:
        """Whether its draw is of a file, which has one seed and shot count."""
        return self.draw not in (RANKED, COOP, GIVEN)

    @property
    def request(self) -> Request:
        """What makes its row."""
        return Request(
            methods=(self.method,),
            shots=(self.shots or 1,),
            seeds=(1 if self.seed is None else self.seed,),
            select=self.select,
            settings=dict(self.given),
            recipe=self.recipe,
            draw=self.draw,
            fewer=self.fewer,
            init_seeds=() if self.init_seed is None else (self.init_seed,),
            classes=self.classes,
        )

    def like(self, other: "How") -> "How":
        """The same with what it does not read taken from another: draw, text, second encoder."""
        unread = ["draw", "shots", "fewer"] if self.shots == 0 else []
        unread += [name for name in ("seed", "text") if getattr(self, name) is None]
        unread += ["aux"] if self.aux is None and self.encoder == other.encoder else []
        return replace(self, **{name: getattr(other, name) for name in unread})


@dataclass(frozen=True)
class Step:
    """One ingredient.

    Attributes:
        swapped: its name; empty of the first row, from which the others start.
        change: what took the place of what.
        top1: test accuracy after it, as a fraction.
        gain: what it adds to those above it.
        ci95: the 95 % interval of that on these test pictures; None of the first row.
        row_id: of the row that has it.
    """

    swapped: str
    change: str
    top1: float
    gain: float
    ci95: tuple[float, float] | None
    row_id: str

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it: fractions."""
        return vars(self) | {"ci95": None if self.ci95 is None else list(self.ci95)}


def steps_between(
    first: Row,
    second: Row,
    sets: Sequence[FeatureSet],
    root: Path,
    *,
    option: str = "",
    max_memory: int | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> list[Step]:
    """The way from one row to another, an ingredient at a time.

    Args:
        first: a row of the log.
        second: another.
        sets: the feature sets that they were made from, with the second encoder's features beside
            them where a row has one.
        root: the folder that the log lies in.
        option: of the command line that reads there.
        max_memory: working memory in bytes.
        notice: called with a line for the user.

    Raises:
        UsageError: the rows are of other test pictures, or the same.
        StoreError: a row cannot be made again from what is here.
        CacheclipError: a row in between cannot be made.
    """
    _refuse_apart(first, second)
    maker = _Maker(sets, root, option, max_memory)
    start, end = maker.how(first), maker.how(second)
    start, end = start.like(end), end.like(start)
    row, right = maker.made(start)
    found = [Step("", "", float(right.mean()), 0.0, None, row.row_id)]
    way = list(_way(start, end))
    for k, (swapped, change, how) in enumerate(way, 1):
        notice(f"{k} of {len(way)}: {swapped} {change}")
        row, after = maker.made(how)
        gap = after.astype(float) - right  # [n]
        gain, half = float(gap.mean()), Z95 * float(gap.std()) / sqrt(len(gap))
        ci95 = (gain - half, gain + half)
        found.append(Step(swapped, change, float(after.mean()), gain, ci95, row.row_id))
        right = after
    return found


class _Maker:
    """Makes the rows in between, and takes those that the log has."""

    def __init__(
        self, sets: Sequence[FeatureSet], root: Path, option: str, max_memory: int | None
    ) -> None:
        self._sets = {(own.name, own.aux.name if own.aux else None): own for own in sets}
        self._root = root
        self._option = option
        self._max_memory = max_memory
        self._logged = rows(root)

    def how(self, row: Row) -> How:
        """How a row of the log was made.

        Raises:
            StoreError: what is made so is another row now, or what it takes is not here.
        """
        how = How.of(row, self._root)
        had = {name: (value,) for name, value in row.hparams.items()}
        said = [how.given] if row.given is not None else [{}, had]  # an older row says less
        beside = [aux for name, aux in self._sets if name == how.encoder]
        for given, aux in product(said, [how.aux] if how.aux else beside):
            how = replace(how, given=given, aux=aux)
            (made,) = self._comparison(how).planned
            if made.row_id == row.row_id:
                return how
        raise _another(row, made, self._root, self._option)

    def made(self, how: How) -> tuple[Row, Right]:
        """A row, and which test pictures it has right.

        Raises:
            StoreError: there is no such class text.
            CacheclipError: it cannot be made.
        """
        comparison = self._comparison(how)
        (row,) = comparison.planned
        if row.row_id in self._logged:
            with suppress(StoreError):  # what is lost is made again
                answered = predictions(self._root, row.row_id)
                return row, answered.predicted == answered.label
        ((outcome, row),) = comparison.run()
        if outcome.scores is None:
            raise FitError(
                f"{how.method} has no result on the way from one row to the other",
                where=str(row.error).splitlines()[0],
                fix="name two rows that differ in less",
            )
        return row, outcome.scores.predicted[0] == outcome.scores.label

    def _comparison(self, how: How) -> Comparison:
        features = self._sets[how.encoder, how.aux]
        if how.text is not None:
            if how.text not in features.texts:
                raise StoreError(
                    f"there is no class text of {how.text} by {how.encoder}",
                    where=f"data set {features.dataset}",
                    fix=features.text_command,
                )
            features = replace(features, text=features.texts[how.text])
        return Comparison(replace(how.request, max_memory=self._max_memory), features)


def _another(wanted: Row, made: Row, root: Path, option: str) -> StoreError:
    """What would be made in the place of a row of the log is not that row."""
    apart = [name for name in MAY_DIFFER if getattr(wanted, name) != getattr(made, name)]
    given = {name: tuple(values) for name, values in (wanted.given or {}).items()}
    command = next_step.command(wanted, {wanted.method: given})
    return StoreError(
        f"row {wanted.row_id} cannot be made again: its {', '.join(apart)} would be another now",
        where=str(root / LOG),
        fix=f"{command}{option}, then take the row that it makes",
    )


def table(steps: Sequence[Step]) -> Table:
    """A line an ingredient, in percent and points."""
    first = ["(first)", "", percent(steps[0].top1), "", ""]
    cells = [first] + [
        [
            step.swapped,
            step.change,
            percent(step.top1),
            f"{100 * step.gain:+.1f}",
            "" if step.ci95 is None else " to ".join(f"{100 * x:+.1f}" for x in step.ci95),
        ]
        for step in steps[1:]
    ]
    return ["swapped", "from -> to", "test %", "points", "95 %"], cells


def _refuse_apart(first: Row, second: Row) -> None:
    """Refuse rows that no swap leads from one to the other of."""
    ids = f"rows {first.row_id} and {second.row_id}"
    if first.row_id == second.row_id:
        raise UsageError("this is one row twice", where=ids, fix="cacheclip stats names others")
    if first.learned_classes or second.learned_classes:
        raise UsageError(
            "a row of classes or a set that it did not learn from has no way to another",
            where=ids,
            fix="name two rows that are tested on the classes that they learned from",
        )
    named = first.classes in (ALL_CLASSES, BASE, NEW) or (first.classnames and second.classnames)
    if first.classes == second.classes and not named:
        raise UsageError(
            f"these rows were logged before rows named their classes, {first.classes}",
            where=ids,
            fix="make both again: add --on-existing redo to the commands that made them",
        )
    apart = [name for name in OF_ONE_TEST if getattr(first, name) != getattr(second, name)]
    if apart:
        own, other = (", ".join(f"{n} {getattr(r, n)}" for n in apart) for r in (first, second))
        raise UsageError(
            f"these rows answer other questions, and that cannot be swapped: {own}; and {other}",
            where=ids,
            fix="name two rows of one data set, its classes and its test pictures",
        )


class _Walk:
    """Where the way has come to, and the steps that it may take next."""

    def __init__(self, start: How, end: How) -> None:
        self.now = start
        self._end = end

    def swap(self, swapped: str, *names: str) -> Iterator[tuple[str, str, How]]:
        """Take what the end has in some fields."""
        old, end = self.now, self._end
        differing = [name for name in names if getattr(old, name) != getattr(end, name)]
        if differing:
            self.now = replace(old, **{name: getattr(end, name) for name in differing})
            yield swapped, f"{_told(old, differing)} -> {_told(end, differing)}", self.now

    def settings(self, given: Mapping[str, tuple[Value, ...]]) -> Iterator[tuple[str, str, How]]:
        """Give what is to be given, setting by setting."""
        for name in dict.fromkeys([*self.now.given, *given]):
            old, new = self.now.given.get(name), given.get(name)
            if old == new:
                continue
            others = {n: values for n, values in self.now.given.items() if n != name}
            own = others if new is None else {**others, name: new}
            self.now = replace(self.now, given=own)
            yield f"{self.now.method} {name}", f"{_values(old)} -> {_values(new)}", self.now

    def constants(self) -> Iterator[tuple[str, str, How]]:
        """Leave the method to its own constants."""
        yield from self.settings({})
        if self.now.select != FIXED:
            change = f"{self.now.select} -> {FIXED}"
            self.now = replace(self.now, select=FIXED)
            yield f"{self.now.method} select", change, self.now


def _way(start: How, end: How) -> Iterator[tuple[str, str, How]]:
    """What is swapped, what takes the place of what, and how the row after it is made.

    Two methods have no settings in common, so they meet at their constants.
    """
    walk = _Walk(start, end)
    if start.method != end.method:
        yield from walk.constants()
    yield from walk.swap("encoder", "encoder", "aux")
    yield from walk.swap("text", "text")
    if start.of_file or end.of_file:
        yield from walk.swap("draw", "draw", "shots", "seed", "fewer")
    yield from walk.swap("draw", "draw", "seed", "fewer")
    yield from walk.swap("start", "init_seed")
    yield from walk.swap("shots", "shots")
    if start.method != end.method:
        yield from walk.swap("method", "method", "recipe")
    yield from walk.swap(f"{end.method} recipe", "recipe")
    yield from walk.settings(end.given)
    yield from walk.swap(f"{end.method} select", "select")


def _told(how: How, names: Sequence[str]) -> str:
    """What a row has in some fields; several by their names."""
    if len(names) == 1 and names[0] not in ("seed", "init_seed"):
        return str(getattr(how, names[0]))
    return ", ".join(f"{name} {getattr(how, name)}" for name in names)


def _values(given: Sequence[Value] | None) -> str:
    return "as the method has it" if given is None else ",".join(map(exact, given))
