"""What a fit is tested on: its own classes, classes that it never met, other data sets."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from cacheclip.answers import Classes
from cacheclip.draws import Draw, Fewer
from cacheclip.engine import stack as engine
from cacheclip.errors import InputError, StoreError, UsageError, argument, is_in_python, some
from cacheclip.methods.base import Method
from cacheclip.store.auxiliary import Auxiliary
from cacheclip.store.schema import IMPORTED
from cacheclip.store.scope import ALL, BASE, NEW, Scope, among, scoped
from cacheclip.store.source import About, Source
from cacheclip.study.data import SetData
from cacheclip.study.heads import Heads, fit
from cacheclip.study.plan import Variant
from cacheclip.study.supports import COOP
from cacheclip.task import Query

FEWEST = 4  # classes, of which two are base and two new


@dataclass(frozen=True)
class Target:
    """Test pictures, and how the head of a fit answers for their classes.

    Attributes:
        learned: the classes and the data set that the fit learned from.
        data: the classes and the data set that it is tested on.
        columns: which of the learned classes each of `data` is, for another data set; None for
            other classes, of this set or of another, for which `served` makes heads.
    """

    learned: SetData
    data: SetData
    columns: tuple[int, ...] | None = None

    def query(self, method: Method) -> Query:
        """All good test pictures, beside the encoder as the fit read it."""
        return self.data.test_query(method, self.learned.encoder(method.reads))

    def of_these(self, method: Method, logits: Tensor) -> Tensor:
        """The logits [V, n, C] of these classes, where those of all learned classes come."""
        return logits if self._has_own_head(method) else logits[..., list(self.columns or ())]

    def _has_own_head(self, method: Method) -> bool:
        """Whether a head of these classes answers, and not columns of the learned one's."""
        return self.columns is None or method.reads_new_shots

    def draw_alike(self) -> None:
        """Draw shots as those of the learned classes are; what names pictures names one set's."""
        own, learned = self.data.supports, self.learned.supports
        same = self.data.features.dataset == self.learned.features.dataset
        if same or learned.procedure == COOP:
            own.procedure, own.listed = learned.procedure, learned.listed

    def support(self, draw: Draw, fewer: Fewer = "keep") -> Draw:
        """The shots of these classes by the seed of a draw of the learned ones.

        Raises:
            InputError: some have too few pictures, and `fewer` is `error`.
        """
        return self.data.draw(draw.shots, draw.seed, fewer)

    @cached_property
    def zero_shot(self) -> Classes | None:
        """What the text that the fit read gives each test picture, [n]; None without text."""
        if self.columns is None:
            return self.data.zero_shot
        return self.learned.zero_shot_of(self.data, self.columns)

    def serves(self, method: type[Method]) -> bool:
        """Whether a method's fits can answer here.

        For classes that were not learned from it is one whose head takes any class text, or one
        that learns from no support picture, which is made for these classes as for any.
        """
        same = self.data.classnames == self.learned.classnames
        return self.columns is not None or same or method.transfers or method.learns != "support"

    def served(self, learned: Heads, served: Heads) -> Heads:
        """What answers here.

        Args:
            learned: variants as their fit and their search left them.
            served: the same, for the learned classes.
        """
        method, variants = learned.method, learned.variants
        if not self._has_own_head(method):
            return served
        if type(method).learns != "support":
            undrawn = [Variant(own.cell, own.settings, None) for own in variants]
            heads = list(fit(method, undrawn, self.data))
            return replace(Heads.cat(heads), variants=variants)
        if method.reads_new_shots:  # of how many pictures may differ by the draw
            return Heads.cat([self._by_shots(learned.one(v)) for v in range(len(variants))])
        draws, settings = [own.draw for own in variants], [own.settings for own in variants]
        task = self.learned.task(type(method), draws, settings)
        text, n_classes = self.data.text(method.reads), len(self.data.classnames)
        others = replace(task, text=text, n_classes=n_classes)
        params = engine.head_elsewhere(method, learned.params, others)
        return Heads.of(method, variants, params, learned.precision)

    def _by_shots(self, learned: Heads) -> Heads:
        """One variant with a head of the text and the shots of these classes."""
        (variant,) = learned.variants
        draws = [self.support(variant.draw)] if variant.draw else [None]
        task = self.data.task(type(learned.method), draws, [variant.settings])
        params = engine.head_elsewhere(learned.method, learned.params, task)
        return Heads.of(learned.method, [variant], params, learned.precision)


def of(
    learned: SetData,
    source: Source,
    test_on: Sequence[Source],
    classes: Sequence[str],
    *,
    base_to_new: bool,
) -> list[Target]:
    """What fits are tested on beside the classes that they learn from.

    Args:
        learned: those classes.
        source: all classes of their set.
        test_on: other sets to be tested on.
        classes: those that were asked for.
        base_to_new: whether the classes learned from are the base classes.

    Raises:
        CacheclipError: see `of_sets`.
        UsageError: two protocols at once.
    """
    if not base_to_new:
        return of_sets(learned, test_on)
    asked = [(classes, "classes"), (test_on, "test-on")]
    if others := [argument(name) for given, name in asked if given]:
        raise UsageError(
            f"{argument('base-to-new')} says itself which classes and pictures count",
            where=", ".join(others),
            fix=f"leave {argument('base-to-new')} out, or {' and '.join(others)}",
        )
    return of_classes(learned, source)


def learned_from(source: Source, classes: Sequence[str], *, base_to_new: bool) -> Source:
    """The classes that fits learn from.

    Args:
        source: all classes.
        classes: those that were asked for.
        base_to_new: whether they are the base classes.

    Raises:
        UsageError: see `scoped`; or base and new would not be two classes each.
    """
    if not base_to_new:
        return scoped(source, classes)
    if (n_classes := len(source.labels.classnames)) < FEWEST:
        raise UsageError(
            f"base and new classes are two at least each, and here are {n_classes} in all",
            where=f"{argument('base-to-new')}, data set {source.dataset}",
            fix=f"take a data set of {FEWEST} classes, or leave {argument('base-to-new')} out",
        )
    return scoped(source, [BASE])


def of_classes(learned: SetData, source: Source) -> list[Target]:
    """The new classes, and all of them, for fits on the base classes.

    Args:
        learned: the base classes.
        source: all classes.

    Raises:
        StoreError: some of them have no test pictures.
    """
    found = []
    for name in (NEW, ALL):
        data = SetData(scoped(source, [name]), learned.device, learned.limit)
        _refuse_untested(data, argument("base-to-new"), f" of its {name} classes")
        found.append(Target(learned, data))
    return found


def of_sets(learned: SetData, others: Sequence[Source]) -> list[Target]:
    """Other data sets, by the names of their classes.

    A class is the same where its name is, capitals and `_` or `-` for a blank aside. Pictures of
    classes that were not learned are left out; of a set that shares no two classes all count, for
    what serves any class text.

    Raises:
        UsageError: a set comes from another encoder, or is tested on already.
        InputError: it shares fewer than two classes, and has no text to serve its own by.
        StoreError: it has no test pictures.
    """
    _refuse_again(learned, others)
    found = []
    for other in others:
        _refuse_encoders(learned, other)
        names = other.labels.classnames
        column = _columns(learned.classnames, names)
        shared = [k for k, own in enumerate(column) if own is not None]
        data, columns = SetData(other, learned.device, learned.limit), None
        if len(shared) >= 2:
            data = SetData(among(other, shared), learned.device, learned.limit)
            columns = tuple(own for own in column if own is not None)
        elif other.text is None:
            raise InputError(
                f"{len(shared)} of its {len(names)} classes are among those learned from, and a "
                "test needs two",
                where=f"{argument('test-on')}, data set {other.dataset} "
                f"({some(names)}); learned from: {some(learned.classnames)}",
                fix="give classes the same names in both sets: cacheclip extract --classnames FILE"
                "; or give it text, for methods that serve any classes",
            )
        _refuse_untested(data, argument("test-on"))
        found.append(Target(learned, data, columns))
    return found


def notices(targets: Sequence[Target]) -> list[str]:
    """A line on each set of which classes are left out."""
    lines = []
    for target in targets:
        source = target.data.features
        other = source.dataset != target.learned.features.dataset
        if target.columns is None and other:
            lines.append(
                f"{source.dataset}: its own {len(target.data.classnames)} classes, by their text: "
                "none was learned from"
            )
        if target.columns is None or not isinstance(source, Scope):
            continue
        whole = source.whole.labels.classnames
        lost = [name for label, name in enumerate(whole) if label not in source.classes]
        lines.append(
            f"{source.dataset}: pictures of {len(lost)} of {len(whole)} classes are left out, "
            f"which were not learned from: {some(lost)}"
        )
    return lines


def _refuse_untested(data: SetData, option: str, classes: str = "") -> None:
    """Refuse what has no test pictures.

    Raises:
        StoreError: it has none.
    """
    if not data.tested:
        raise StoreError(
            f"there is no test picture{classes} to be tested on",
            where=f"{option}, data set {data.features.dataset}",
            fix=data.features.extract_command,
        )


def _refuse_again(learned: SetData, others: Sequence[Source]) -> None:
    """Refuse the set that is learned from, and a set twice: rows know it by its id alone.

    Raises:
        UsageError: it is among the others.
    """
    times = Counter([learned.features.dataset, *(other.dataset for other in others)])
    if again := [name for name, count in times.items() if count > 1]:
        renamed = ', or name it apart: Features.of(..., name="NAME")' if is_in_python() else ""
        raise UsageError(
            f"{some(again)} would be tested on twice",
            where=f"{argument('test-on')}; learned from: {learned.features.dataset}",
            fix=f"leave {some(again)} out of {argument('test-on')}{renamed}",
        )


def _refuse_encoders(learned: SetData, other: Source) -> None:
    """Refuse a set whose features other encoders made, the first or the second.

    Raises:
        UsageError: it is such a set.
    """
    _refuse_encoder(learned.features, other, other.dataset)
    if learned.features.aux and other.aux:  # where one has none, methods that read it do not run
        _refuse_encoder(learned.features.aux, other.aux, other.dataset)


def _refuse_encoder(learned: About | Auxiliary, other: About | Auxiliary, dataset: str) -> None:
    """Refuse features of another encoder; of imported ones nobody knows which made them.

    Raises:
        UsageError: they are such.
    """
    own, its = dict(learned.encoder), dict(other.encoder)
    imported = own["library"] == its["library"] == IMPORTED
    if own == its or (imported and own["embed_dim"] == its["embed_dim"]):
        return
    weights = ["--model", own["name"], "--pretrained", str(own["pretrained"])]
    raise UsageError(
        f"{dataset} has features of another encoder",
        where=f"{argument('test-on')}: {its['name']}@{its['pretrained']} of {its['embed_dim']} "
        f"numbers, learned from: {learned.name} of {own['embed_dim']}",
        fix="encode it by the same: "
        + shlex.join(["cacheclip", "extract", "--dataset", dataset, *weights]),
    )


def _columns(learned: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Which learned class each name means, as it is spelled or else by its letters; or None."""
    alike = Counter(map(_letters, learned))
    by_letters = {_letters(own): k for k, own in enumerate(learned) if alike[_letters(own)] == 1}
    spelled = {own: k for k, own in enumerate(learned)}
    return [spelled.get(name, by_letters.get(_letters(name))) for name in names]


def _letters(name: str) -> str:
    """What the spellings of one class name have in common."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
