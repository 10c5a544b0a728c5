"""What the rows of a log are called: a method as it was run, told from the others by its name.

A contender is a method with a policy, a recipe and settings that were given. On the command line
and in tables it is METHOD@POLICY@RECIPE@NAME=VALUE, as far as it takes to be told from the others
in the log, whatever their data sets and shots.
"""

from collections.abc import Iterable, Mapping, Sequence

from cacheclip.results import Row
from cacheclip.study.table import exact, named

Given = Mapping[str, str]  # setting -> the values that it was given, with commas between


def by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each contender: the method with the parts in which its rows differ.

    Where a method has no settings, every policy chooses the same.
    """
    policies: dict[str, set[str]] = {}
    recipes: dict[str, set[str | None]] = {}
    for row in rows:
        policies.setdefault(row.method, set()).add(row.select if row.hparams else "")
        recipes.setdefault(row.method, set()).add(row.recipe)
    told: dict[str, list[str]] = {}
    for own in _peers(rows):
        told |= _told(own)
    found: dict[str, list[Row]] = {}
    for row in rows:
        parts = [row.method]
        if len(policies[row.method]) > 1:
            parts.append(row.select)
        if len(recipes[row.method]) > 1 and row.recipe:
            parts.append(row.recipe)
        found.setdefault("@".join([*parts, *told[row.row_id]]), []).append(row)
    return found


def given(rows: Sequence[Row]) -> dict[str, Given]:
    """The settings that each row was given, by row_id.

    The method's constants count as given by nobody. Of a row that does not say what it was given,
    they are those settings that are not the constants of its data set and shots, as far as the log
    has these; where a policy chose, those that competed with no other value and are not the same
    in all rows.
    """
    found: dict[str, Given] = {}
    for peers in _peers(rows):
        constants = {(row.dataset, row.shots): row.hparams for row in peers if row.constants}
        varied = _varied(peers)
        for row in peers:
            if row.constants:
                found[row.row_id] = {}
            elif row.given is not None:
                found[row.row_id] = {n: ",".join(map(exact, x)) for n, x in row.given.items()}
            else:
                own = constants.get((row.dataset, row.shots), {})
                found[row.row_id] = {
                    name: exact(value)
                    for name, value in row.hparams.items()
                    if name not in _chosen(row)
                    and value != own.get(name)
                    and (name in varied or row.constants is not None)
                }
    return found


def fits(part: str, row: Row) -> bool:
    """Whether a part of a contender's name says what is so of a row."""
    name, equals, value = part.partition("=")
    if equals:
        return name in row.hparams and value == exact(row.hparams[name])
    return part in (row.select, row.recipe)


def marked(name: str, row: Row) -> str:
    """A name with the marks of a row; see `named`."""
    return name + named(row).removeprefix(row.method)


def _peers(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """Rows that differ in settings and trials at most."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((row.method, row.select, row.recipe), []).append(row)
    return found.values()


def _told(rows: Sequence[Row]) -> dict[str, list[str]]:
    """NAME=VALUE of the settings in which rows were asked to differ, by row_id."""
    own = given(rows)
    noted = {name for row in rows for name in row.given or ()} | _varied(rows)
    names = dict.fromkeys(name for settings in own.values() for name in settings)
    differing = [
        name
        for name in names
        if name in noted and len({settings.get(name) for settings in own.values()}) > 1
    ]
    return {
        row_id: [f"{name}={settings[name]}" for name in differing if name in settings]
        for row_id, settings in own.items()
    }


def _chosen(row: Row) -> set[str]:
    """The settings of a row for which several values competed."""
    points = [point["hparams"] for point in row.curve or ()]
    return {name for name in row.hparams if len({point.get(name) for point in points}) > 1}


def _varied(rows: Sequence[Row]) -> set[str]:
    """The settings in which rows differ."""
    names = {name for row in rows for name in row.hparams}
    return {name for name in names if len({row.hparams.get(name) for row in rows}) > 1}
