"""The commands that make rows which a log lacks, and the errors that end in them."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cacheclip.errors import CacheclipError, StoreError, UsageError, counted, instead, near, some
from cacheclip.methods import names as method_names
from cacheclip.results import LOG, Row
from cacheclip.select import names as policy_names
from cacheclip.stats.comparable import LeftOut, Wanted, classes_of
from cacheclip.stats.contenders import Given
from cacheclip.stats.trials import Trial
from cacheclip.store.scope import ALL, BASE, EASY, NEW
from cacheclip.study.supports import LISTED
from cacheclip.study.table import by_number


@dataclass(frozen=True)
class Makers:
    """Commands that make rows like those of a log.

    Attributes:
        root: the folder that the log lies in.
        option: of the command line that reads there, such as " --home DIR".
        rows: contender -> trial -> its row: their draws are those of the commands.
    """

    root: Path
    option: str
    rows: Mapping[str, Mapping[Trial, Row]]

    def of(self, row: Row, trials: Sequence[Trial], given: Given) -> list[str]:
        """The command lines that make rows like this one in trials of one data set.

        Args:
            row: it tells method, encoder, policy, recipe and kind of draw.
            trials: of one data set.
            given: every setting that was given.
        """
        data = ["--dataset", trials[0].dataset, "--model", row.model]
        data += ["--pretrained", row.pretrained]
        data += _protocol(row)
        how = ["--select", row.select]
        more = ["--recipe", row.recipe] if row.recipe else []
        more += ["--fewer", row.fewer] if row.fewer == "keep" else []
        more += [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        if row.shots and row.draw == LISTED:  # each was drawn by a file of its own
            lines = []
            for trial in trials:
                words = ["--method", row.method, "--shots", str(trial.shots)]
                words += ["--seed", str(trial.seed), *how, "--draw", self._draw(trial)]
                lines.append(["fit", *data, *words, *more])
        else:
            words = ["--methods", row.method]
            if row.shots:
                shots = sorted({trial.shots for trial in trials}, key=by_number)
                words += ["--shots", ",".join(map(str, shots))]
            if row.seed is not None:
                words += ["--seeds", str(max(trial.seed or 1 for trial in trials))]
            words += [*how, "--draw", row.draw] if row.shots else how
            lines = [["compare", *data, *words, *more]]
        return [shlex.join(["cacheclip", *line]) + self.option for line in lines]

    def _draw(self, trial: Trial) -> str:
        """The record of the draw that a trial was run on."""
        rows = (own[trial] for own in self.rows.values() if trial in own)
        drawn = next((row.draw_id for row in rows if row.shots), None)
        return str((self.root / "draws" / f"{drawn}.json").absolute())


def _protocol(row: Row) -> list[str]:
    """What makes rows of such classes, or on such a set."""
    if row.eval_dataset != row.dataset:
        return ["--test-on", row.eval_dataset]
    if row.learned_classes not in (None, row.classes):
        return _halves(row.learned_classes)
    return [] if row.classes == ALL else ["--classes", ",".join(row.classnames or [row.classes])]


def absent(asked: str, makers: Makers, left_out: Sequence[LeftOut] = ()) -> CacheclipError:
    """A contender has no rows: where they are, or how to make them where those of others are.

    Args:
        asked: its name.
        makers: of the rows that count.
        left_out: rows that do not.
    """
    where = str(makers.root / LOG)
    method, *parts = asked.split("@")
    if method not in method_names():
        fix = instead(method, method_names(), see="cacheclip methods")
        return UsageError(f"no method {method!r}", where=where, fix=fix)
    for lost in reversed(left_out):
        own = [row for row in lost.rows if row.method == method]
        if own and lost.option(own[-1]):
            return StoreError(
                f"the log has no rows of {method} among those that count, and "
                f"{counted(len(own), 'row')} {lost.what}",
                where=where,
                fix=f"add {lost.option(own[-1])}",
            )
    rows = [row for own in makers.rows.values() for row in own.values()]
    like = ([row for row in rows if row.shots] or rows)[-1]
    trials = {t for own in makers.rows.values() for t in own if t.dataset == like.dataset}
    policies = policy_names()
    policy = next((part for part in parts if part in policies), like.select)
    settings = (part.partition("=") for part in parts if "=" in part)
    recipe = next((part for part in parts if part not in policies and "=" not in part), None)
    wanted = replace(like, method=method, recipe=recipe, select=policy)
    given = {name: value for name, _, value in settings}
    fix = makers.of(wanted, sorted(trials, key=lambda t: t.order), given)[0]
    return StoreError(f"the log has no rows of {asked}", where=where, fix=fix)


def none(
    root: Path, logged: Sequence[Row], asked: Sequence[str], wanted: Wanted, option: str
) -> StoreError:
    """There are no such rows: what there is, or how to make some."""
    words = [f"--dataset {','.join(wanted.datasets)}"] * bool(wanted.datasets)
    words += [f"--shots {','.join(map(str, wanted.shots))}"] * bool(wanted.shots)
    words += [f"--model {wanted.model}"] * bool(wanted.model)
    words += [f"--draw {wanted.draw}"] * bool(wanted.draw not in (None, LISTED))
    words += [f"--test-on {wanted.test_on}"] * bool(wanted.test_on)
    words += _asked(wanted.classes)
    methods = [f"--methods {','.join(dict.fromkeys(a.split('@')[0] for a in asked))}"] * bool(asked)
    what = f"no results of {' '.join(words)}" if logged and words else "no results"
    there = Counter(f"{row.dataset} by {row.model}@{row.pretrained}" for row in logged)
    shots = sorted({row.shots for row in logged} - {0}, key=by_number)
    at = f" at {', '.join(map(str, shots))} shots" if wanted.shots and shots else ""
    return StoreError(
        what + (f"; there are of {some(list(there))}{at}" if there else ""),
        where=str(root / LOG),
        fix=_misspelled(logged, wanted)
        or _of_no_row(logged, wanted)
        or " ".join(["cacheclip compare", *words, *methods]) + option,
    )


def _asked(classes: str) -> list[str]:
    """The option of `compare` that makes rows of these classes."""
    if "-to-" in classes:
        return _halves(classes.partition("-to-")[0])
    return [] if classes == ALL else [f"--classes {shlex.quote(classes)}"]


def _halves(learned: str) -> list[str]:
    """The option of `compare` that learns from such a half."""
    return ["--base-to-new", *(["difficulty"] if learned == EASY else [])]


def _misspelled(logged: Sequence[Row], wanted: Wanted) -> str:
    """What to write instead of a name that no row has; nothing where it resembles none."""
    datasets = list(dict.fromkeys(row.dataset for row in logged))
    known = {*datasets, *(name.rpartition("/")[2] for name in datasets)}
    asked = [(name, "--dataset ", datasets) for name in wanted.datasets if name not in known]
    models = list(dict.fromkeys(row.model for row in logged))
    model = (wanted.model or "").partition("@")[0]
    asked += [(model, "--model ", models)] * bool(model and model not in models)
    close = [
        f"{option}{near(name, there)[0]}" for name, option, there in asked if near(name, there)
    ]
    return f"did you mean {' '.join(close)}?" if close else ""


def _of_no_row(logged: Sequence[Row], wanted: Wanted) -> str:
    """What to give instead of an encoder or classes that no row has and no command makes."""
    encoders = [f"{row.model}@{row.pretrained}" for row in reversed(logged)]
    if wanted.model and logged and wanted.model.partition("@")[0] not in {r.model for r in logged}:
        return f"give --model {some([shlex.quote(name) for name in dict.fromkeys(encoders)])}"
    made = (ALL, BASE, NEW)  # by `compare`, whatever the data set
    classes = dict.fromkeys(classes_of(row) for row in reversed(logged))
    if wanted.classes in (*made, *classes) or "-to-" in wanted.classes or not logged:
        return ""
    return f"give --classes {some([shlex.quote(name) for name in classes])}"
