"""From what was asked to cells, variants, stacks and blocks.

A cell is one row of the result: a method, shots, a draw, and the settings that compete for it. Each
of those, learned from that draw or a fold of it, is a variant: one run. The variants that share
static settings and the number of support pictures form a stack and run at once. A block is all
cells of one method and shot count on one feature set.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod

from cacheclip.draws import ALL, Draw, Shots
from cacheclip.errors import CacheclipError, UsageError, argument, counted, near
from cacheclip.methods.base import SEARCH, TEXT_NORM, Method, Settings, Trained
from cacheclip.select.base import Policy
from cacheclip.select.fixed import POLICY as FIXED
from cacheclip.study.folds import folds
from cacheclip.study.settings import Choices

MOST_RUNS = 300_000  # each takes some kB before it runs


@dataclass(frozen=True)
class Cell:
    """One row to be.

    Attributes:
        seed: of its draw; None where nothing is drawn.
        candidates: the settings that compete for it.
        constant: the settings that another must beat.
        draw: what it learns from and is chosen on, or why there is none; None until it is drawn.
        untouched: whether it is one run by the method's own constants.
        given: the settings that the user gave, with their values.
        init_seed: of the start and of the order of the data; None where no step is made.
        alone: the settings that stand where nothing can be left out to choose by, if these are not
            the constants.
    """

    seed: int | None
    candidates: tuple[Settings, ...]
    constant: Settings
    draw: Draw | CacheclipError | None = None
    untouched: bool = False
    given: Choices = field(default_factory=dict)
    init_seed: int | None = None
    alone: Settings | None = None

    @cached_property
    def variants(self) -> tuple["Variant", ...]:
        """Its runs, one a candidate; none where a draw could not be made."""
        if isinstance(self.draw, CacheclipError):
            return ()
        return tuple(Variant(self, settings, self.draw) for settings in self.candidates)

    @cached_property
    def folds(self) -> tuple[Draw, ...]:
        """Its draw without one part of the support after the other; none of one picture a class."""
        return folds(self.draw, even=True) if isinstance(self.draw, Draw) else ()


@dataclass(frozen=True, eq=False)
class Variant:
    """One run: settings that learn from a draw. It equals itself alone, so it can be a key.

    Attributes:
        cell: whose row it competes for.
        settings: all of the method.
        draw: what it learns from.
        whole: where that is a fold, the run that learns from all of the support.
    """

    cell: Cell
    settings: Settings
    draw: Draw | None
    whole: "Variant | None" = None

    @property
    def candidate(self) -> "Variant":
        """The run that is chosen or not by what this one does."""
        return self.whole or self

    @property
    def seed(self) -> int:
        """Of its start and of the order of its data or its stream; 0 where nothing is drawn."""
        own = self.cell.seed if self.cell.init_seed is None else self.cell.init_seed
        return own or 0

    @property
    def n_train(self) -> int:
        """Its support pictures."""
        return len(self.draw.support) if self.draw else 0

    @property
    def n_held(self) -> int:
        """Its validation pictures, where they say when it stops."""
        return len(self.draw.val) if self.draw and self.settings.get("stop") == SEARCH else 0

    @property
    def fit(self) -> tuple[object, ...]:
        """What two runs of one method share that come out alike, whatever chooses between them."""
        draw = self.draw
        held = draw.val if draw and self.n_held else ()
        return self.seed, tuple(self.settings.items()), draw and draw.support, held

    @property
    def rates(self) -> list[float]:
        """What its optimizer multiplies; nothing where no step is made."""
        return [float(self.settings[n]) for n in ("lr", "weight_decay") if n in self.settings]


@dataclass(frozen=True)
class Stack:
    """Variants that run at once, and what they share."""

    static: Settings
    n_train: int
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Block:
    """All cells of one method and shot count."""

    method: type[Method]
    shots: Shots
    policy: Policy
    cells: tuple[Cell, ...]
    recipe: str | None = None

    @property
    def stacks(self) -> list[Stack]:
        """What is fitted before anything is chosen, grouped by what a stack shares."""
        return stacks(self.method, self.entrants)

    @property
    def entrants(self) -> list[Variant]:
        """What is fitted before anything is chosen."""
        return [variant for cell in self.cells for variant in self._of(cell)]

    def _of(self, cell: Cell) -> Sequence[Variant]:
        """The candidates of a cell; where folds choose, each once a fold, side by side."""
        if self.policy.held != "folds" or isinstance(cell.draw, CacheclipError):
            return cell.variants
        if not cell.folds:
            return [Variant(cell, cell.alone or cell.constant, cell.draw)]
        return [Variant(cell, v.settings, part, v) for v in cell.variants for part in cell.folds]

    @property
    def drawn(self) -> bool:
        """Whether its cells depend on draws."""
        return depends_on_draws(self.method, self.policy)

    @property
    def runs(self) -> int:
        """How many settings compete in all cells together."""
        return sum(len(cell.candidates) for cell in self.cells)


def stacks(method: type[Method], variants: Iterable[Variant]) -> list[Stack]:
    """Variants grouped by what a stack shares, in order of their first variant.

    Within one, variants of equal rates stand side by side: one update serves them all.
    """
    groups: dict[tuple[object, ...], list[Variant]] = {}
    for variant in variants:
        static = method.static_of(variant.settings)
        groups.setdefault((variant.n_train, variant.n_held, *static.items()), []).append(variant)
    return [
        Stack(
            method.static_of(own[0].settings),
            own[0].n_train,
            tuple(sorted(own, key=lambda variant: variant.rates)),
        )
        for own in groups.values()
    ]


def policy_of(method: type[Method], asked: Policy) -> Policy:
    """What chooses for a method: nothing where it learns nothing, or has no support to cut."""
    none = method.learns == "nothing" or (asked.held == "folds" and method.learns != "support")
    return FIXED if none else asked


def depends_on_draws(method: type[Method], policy: Policy) -> bool:
    """Whether seeds and shots count: it learns from a support set, or is chosen on what is held."""
    return method.learns == "support" or (method.learns == "held-out" and policy.selects)


def refuse_too_many(
    chosen: Sequence[type[Method]],
    shots: Sequence[Shots],
    seeds: Sequence[int],
    policy: Policy,
    choices: dict[str, Choices],
    init_seeds: Sequence[int] = (),
) -> None:
    """Refuse more runs than memory has room to plan, before any of them is planned.

    Raises:
        UsageError: there are more than `MOST_RUNS`.
    """
    runs = 0
    for method in chosen:
        own = policy_of(method, policy)
        settings = prod(len(x) for x in own.axes(method, choices[method.name]).values())
        draws = len(shots) if depends_on_draws(method, own) else 1
        starts = len(_starts_of(method, None, init_seeds))
        runs += settings * draws * len(_seeds_of(method, own, seeds)) * starts
    if runs > MOST_RUNS:
        raise UsageError(
            f"{runs:,} runs, and a comparison makes {MOST_RUNS:,} at most",
            where=f"{counted(len(chosen), 'method')} x {counted(len(shots), 'shot count')} x "
            f"{counted(len(seeds), 'seed')} x their settings",
            fix=f"compare with fewer {argument('seeds')}, {argument('shots')}, "
            f"{argument('methods')} or values of settings",
        )


def blocks(
    chosen: Sequence[type[Method]],
    shots: Sequence[Shots],
    seeds: Sequence[int],
    asked_policy: Policy,
    choices: dict[str, Choices],
    logit_scale: float,
    recipe: str | None = None,
    per_class: int = 1,
    text_norm: float = TEXT_NORM,
    init_seeds: Sequence[int] = (),
) -> list[Block]:
    """The blocks of a study on one feature set, methods in the order given.

    A method that learns from no picture (zero-shot) is one cell, whatever the shots and seeds, or
    one a seed where that orders its stream: nothing is chosen, its constants stand. So do those of
    one that learns from held-out pictures alone, unless the policy chooses. A method that does not
    know the recipe asked for runs as it does unasked. Constants that depend on the shots are under
    `all` those of `per_class` shots, the training images a class on average.

    Raises:
        UsageError: no method knows the recipe, or a search has nothing to search on.
    """
    refuse_recipe(recipe, chosen)
    made = []
    for method in chosen:
        own, given = method.recipe(recipe), choices[method.name]
        policy = policy_of(method, asked_policy)
        pinned = {name: values[0] for name, values in given.items() if len(values) == 1}
        if policy.held == "folds":  # they stand alone where there are no folds
            pinned = {name: value for name, value in pinned.items() if value != SEARCH}
        for k in shots if depends_on_draws(method, policy) else [0]:
            of = per_class if k == ALL else k
            candidates = policy.candidates(method, given, of, logit_scale, own, text_norm)
            _refuse_search(method, candidates, policy)
            constant = method.fixed(of, logit_scale, own, pinned, text_norm)
            standing = pinned | _nearest(method, given, constant)
            alone = method.fixed(of, logit_scale, own, standing, text_norm)
            untouched = [method.fixed(of, logit_scale, own, {}, text_norm)]
            rivals = [candidates] if policy.selects else [[c] for c in candidates]
            asked = (
                (seed, start, c)
                for seed in _seeds_of(method, policy, seeds)
                for start in _starts_of(method, seed, init_seeds)
                for c in rivals
            )
            cell = partial(Cell, constant=constant, given=given, alone=alone)
            cells = tuple(
                cell(seed, tuple(group), untouched=group == untouched, init_seed=start)
                for seed, start, group in asked
            )
            made.append(Block(method, k, policy, cells, own))
    return made


def _nearest(method: type[Method], given: Choices, constant: Settings) -> Settings:
    """Of several values given, the nearest to zero-shot, where the constant is not among them."""
    table = method.table
    return {
        name: table[name].ordered(values)[0]
        for name, values in given.items()
        if SEARCH not in values and constant.get(name, table[name].default) not in values
    }


def _seeds_of(method: type[Method], policy: Policy, seeds: Sequence[int]) -> Sequence[int | None]:
    """The seeds where they change anything: a draw, or the order of a stream."""
    return seeds if depends_on_draws(method, policy) or method.setting == "online" else [None]


def _starts_of(
    method: type[Method], seed: int | None, init_seeds: Sequence[int]
) -> Sequence[int | None]:
    """The seeds of the start, those that were asked for or the draw's; none where no step is."""
    if not issubclass(method, Trained):
        return [None]
    return init_seeds or [seed]


def refuse_recipe(recipe: str | None, chosen: Sequence[type[Method]]) -> None:
    """Refuse a recipe that none of the methods knows.

    Raises:
        UsageError: it is such a recipe.
    """
    if recipe is None or any(recipe in method.recipes for method in chosen):
        return
    fix = f"leave {argument('recipe')} out: no chosen method knows one"
    if known := [method for method in chosen if method.recipes]:
        recipes = {own for method in known for own in method.recipes}
        close = near(recipe, sorted(recipes))
        fix = f"did you mean {' or '.join(close)}? " if close else ""
        fix += "; ".join(f"{method.name} knows {', '.join(method.recipes)}" for method in known)
    raise UsageError(
        f"no chosen method knows a recipe {recipe!r}",
        where=f"{argument('recipe')}, methods {', '.join(method.name for method in chosen)}",
        fix=fix,
    )


def _refuse_search(method: type[Method], candidates: Sequence[Settings], policy: Policy) -> None:
    """Refuse what only held-out pictures can find; folds of the support find all but `stop`."""
    searched = {name for c in candidates for name, value in c.items() if value == SEARCH}
    found = {"none": set(), "folds": searched - {"stop"}}
    if searched := searched - found.get(policy.held, searched):
        raise UsageError(
            f"{method.name} cannot search its {', '.join(sorted(searched))}: a search needs "
            "validation pictures",
            where="the settings",
            fix=f"give a number, or another {argument('select')} on a set with validation pictures",
        )


def parts(blocks: Sequence[Block], at_once: Callable[[Stack], int]) -> Iterator[list[list[int]]]:
    """The cells of blocks, by position, in groups that run to their rows one after the other.

    A group holds cells of the same stacks, as many as run at once: a kill loses one group. Where
    several policies choose for one method, the cells of a seed stay together.

    Args:
        blocks: of one method and shot count, a policy each; their cells are those to run.
        at_once: variants of such a stack that run together.

    Yields:
        The cells of each block.
    """
    of_stacks: dict[str, list[list[list[int]]]] = {}
    room: dict[str, int] = {}
    for unit in _units(blocks):
        needed, _ = shared(only(blocks, unit))
        key = repr([(stack.static, stack.n_train) for stack in needed])
        if key not in room:
            units_at_once = (at_once(stack) // len(stack.variants) for stack in needed)
            room[key] = min(units_at_once, default=1)
        of_stacks.setdefault(key, []).append(unit)
    for key, members in of_stacks.items():
        step = max(1, room[key])
        for first in range(0, len(members), step):
            some = members[first : first + step]
            yield [[c for unit in some for c in unit[b]] for b in range(len(blocks))]


def _units(blocks: Sequence[Block]) -> list[list[list[int]]]:
    """The cells of each block that stay together: one of one block, else those of a seed."""
    if len(blocks) == 1:
        return [[[c]] for c in range(len(blocks[0].cells))]
    seeds = dict.fromkeys(cell.seed for block in blocks for cell in block.cells)
    return [
        [[c for c, cell in enumerate(block.cells) if cell.seed == seed] for block in blocks]
        for seed in seeds
    ]


def only(blocks: Sequence[Block], numbers: Sequence[Sequence[int]]) -> list[Block]:
    """The blocks with some of their cells."""
    return [
        replace(block, cells=tuple(block.cells[c] for c in own))
        for block, own in zip(blocks, numbers, strict=True)
    ]


def shared(blocks: Sequence[Block]) -> tuple[list[Stack], list[dict[Variant, Variant]]]:
    """What is fitted for several policies of one method, each fit once.

    Returns:
        Its stacks, and for each block the variants that are fitted -> its own that come out alike.
    """
    fitted: dict[tuple[object, ...], Variant] = {}
    own = []
    for block in blocks:
        times: Counter[tuple[object, ...]] = Counter()
        of_block: dict[Variant, Variant] = {}
        for variant in block.entrants:
            times[variant.fit] += 1  # cells of one block may be alike, and each has its own run
            of_block[fitted.setdefault((times[variant.fit], *variant.fit), variant)] = variant
        own.append(of_block)
    return stacks(blocks[0].method, fitted.values()), own
