"""Which row of a comparison goes on, and the command that makes exactly that row again."""

import shlex
from collections.abc import Mapping, Sequence

from cacheclip.results import Row
from cacheclip.select import base as policies
from cacheclip.select.base import Choices
from cacheclip.store.scope import ALL, BASE, NEW
from cacheclip.study.table import ORACLE, VALIDATION, by_number, of_one_kind, of_shots, percent


def best(rows: Sequence[Row]) -> Row | None:
    """The row with the best validation accuracy at the most shots; test accuracy has no say.

    Left-out support pictures rank rows among themselves, where no row has validation pictures. Rows
    on other classes than those learned from, or another set, are left out. Of equals the first
    counts. Where nothing was validated, the last row that went well, of those
    by the method's own constants where there are any; None where several methods have such rows.
    """
    good = [row for row in rows if row.error is None and row.learned_classes is None]
    good = [row for row in good if row.select != ORACLE]
    validated = [row for row in good if row.top1_val is not None]
    if validated:
        most = max((row.shots for row in validated), key=by_number)
        rivals = [row for row in validated if row.shots == most]
        return max(of_one_kind(rivals), key=lambda row: row.top1_val or 0.0)
    drawn = [row for row in good if row.shots] or good
    unswept = [row for row in drawn if row.constants] or drawn
    return unswept[-1] if len({row.method for row in unswept}) == 1 else None


def leaves_bundle(row: Row) -> bool:
    """Whether `fit` of such a row leaves a bundle; an old row is of a method that does."""
    return row.setting in (None, "inductive") and row.select != ORACLE


def why(row: Row) -> str:
    """On what grounds `best` named the row."""
    if row.top1_val is None:
        return f"nothing was chosen on validation pictures; next takes {_named(row)} as it stands"
    on = "validation" if row.chosen_on in (None, VALIDATION) else row.chosen_on
    return f"best by {on}: {_named(row)}, {percent(row.top1_val)} % of {row.n_val} pictures"


def command(
    row: Row,
    choices: Mapping[str, Choices],
    classes: Sequence[str] = (),
    aux: str | None = None,
) -> str:
    """The command line that makes the row again and leaves its bundle.

    Args:
        row: one that went well.
        choices: method -> the settings that the user gave.
        classes: those that were asked for.
        aux: the second encoder that stood beside the first: pictures that it lacks are none of the
            draw or test, whether the method reads it or not.
    """
    options = {"dataset": row.dataset, "model": row.model, "pretrained": row.pretrained}
    if beside := row.encoders[1:] or ([aux] if aux else []):
        options["aux"] = beside[0]
    options["method"] = row.method
    if row.shots:
        options["shots"] = str(row.shots)
    if row.seed is not None:
        options["seed"] = str(row.seed)
    if row.init_seed not in (None, row.seed):
        options["init-seed"] = str(row.init_seed)
    if row.shots:
        options["select"] = row.select
    if row.recipe:
        options["recipe"] = row.recipe
    if row.fewer != "error":
        options["fewer"] = row.fewer
    if row.classes in (BASE, NEW):
        options["classes"] = row.classes
    elif row.classes != ALL:
        options["classes"] = ",".join(classes or row.classnames or ())
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    competed = policies.get(row.select).selects
    for name, values in choices.get(row.method, {}).items():
        if competed:
            words += ["--set", f"{name}={','.join(map(str, values))}"]
        elif name in row.hparams:  # a setting at its default may have no place there
            words += ["--set", f"{name}={row.hparams[name]}"]
    return shlex.join(["cacheclip", "fit", *words])


def _named(row: Row) -> str:
    """A row in words."""
    shots = f" at {of_shots(row.shots)}" if row.shots else ""
    start = "" if row.init_seed in (None, row.seed) else f", start {row.init_seed}"
    seed = "" if row.seed is None else f", seed {row.seed}" if shots else f" with seed {row.seed}"
    return f"{row.method}{shots}{seed}{start}"
