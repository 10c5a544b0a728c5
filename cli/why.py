"""`cacheclip compare A B --why`: two rows of the log, one ingredient swapped at a time."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cacheclip.cli import options, output
from cacheclip.errors import UsageError
from cacheclip.methods import names as method_names
from cacheclip.select import names as policy_names

if TYPE_CHECKING:
    from cacheclip.draws import Shots

# Parameters of compare that go with --why.
TAKEN = ("pair", "why", "datasets", "model", "shots", "max_memory", "home", "results", "as_json")


def _refuse_others(pair: tuple[str, ...], *, why: bool) -> None:
    """Refuse two names without `--why`, `--why` without two names, and options that it ignores.

    Raises:
        UsageError: it is so.
    """
    named = " ".join(pair)
    if not why:
        raise UsageError(
            f"{named}: compare takes names of rows with --why alone",
            where="cacheclip compare",
            fix=" or ".join([f"cacheclip compare {named} --why", *_as_options(pair)]),
        )
    if len(pair) != 2:
        raise UsageError(
            f"--why takes two rows, and here {'is' if len(pair) == 1 else 'are'} {len(pair)}",
            where="cacheclip compare A B --why",
            fix="name two methods of the log, or two rows by the first letters of their ids",
        )
    params = click.get_current_context().command.params
    given = [p.opts[0] for p in params if p.name and p.name not in TAKEN and _is_given(p.name)]
    if given:
        raise UsageError(
            f"--why makes the rows as the log has them, so {', '.join(given)} says nothing",
            where="cacheclip compare A B --why",
            fix=f"leave {', '.join(given)} out",
        )


def _as_options(pair: tuple[str, ...]) -> list[str]:
    """The comparison of such contenders; nothing where one is no method's name."""
    methods = dict.fromkeys(name.partition("@")[0] for name in pair)
    if not set(methods) <= set(method_names()):
        return []
    parts = dict.fromkeys(part for name in pair for part in name.split("@")[1:])
    policies = [part for part in parts if part in policy_names()]
    select = f" --select {','.join(policies)}" if policies else ""
    return [f"cacheclip compare --methods {','.join(methods)}{select}"]


def explained(
    pair: tuple[str, ...],
    datasets: tuple[str, ...],
    model: str | None,
    shots: tuple["Shots", ...],
    max_memory: int | None,
    home: Path | None,
    results: Path | None,
    *,
    why: bool,
    as_json: bool,
) -> None:
    """Print what each ingredient adds on the way from the first row to the second.

    Raises:
        UsageError: `--why` and two names do not stand there together, or others do beside them.
    """
    _refuse_others(pair, why=why)
    from cacheclip.stats.comparable import Wanted
    from cacheclip.stats.one_row import brief
    from cacheclip.stats.two_rows import two_rows
    from cacheclip.store.auxiliary import with_aux
    from cacheclip.store.home import Home

    place = Home.resolve(home)
    root, option = options.log_of(place, results)
    wanted = Wanted(datasets, shots if _is_given("shots") else (), model)
    first, second = two_rows(root, pair, wanted, option=option, notice=output.talk)
    found = [place.find(row.dataset, row.model, row.pretrained) for row in (first, second)]
    aux = [row.encoders[1] if row.encoders[1:] else None for row in (first, second)]
    sets = [with_aux(place, *own) for own in zip(found, aux, strict=True)]
    from cacheclip.study.why import steps_between, table  # once there are features for it

    steps = steps_between(
        *(first, second, sets, root), option=option, max_memory=max_memory, notice=output.talk
    )
    if as_json:
        ids = {"first": first.row_id, "second": second.row_id}
        output.data({**ids, "steps": [step.as_json() for step in steps]})
        return
    output.table(*table(steps))
    total = 100 * (steps[-1].top1 - steps[0].top1)
    output.talk(
        f"from row {first.row_id} ({brief(first)}) to row {second.row_id} ({brief(second)}): "
        f"{total:+.1f} points on {first.n_test} test pictures",
        "each line adds to those above it; in another order some points would stand elsewhere",
    )


def _is_given(name: str) -> bool:
    """Whether a parameter stands on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE
