"""The rows of a log as contenders that met in trials.

A trial is a problem that one accuracy answers: a data set, shots, and the seed of the draw. A
contender is a method as it was run: by a policy, a recipe and settings that were given. On the
command line and in tables it is METHOD@POLICY@RECIPE@NAME=VALUE, as far as it takes to be told from
the others in the log.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cacheclip.errors import CacheclipError, StoreError, UsageError, instead, some
from cacheclip.methods import names as method_names
from cacheclip.results import LOG, Row, rows as rows_of
from cacheclip.study.table import Value, by_number, exact, named


class Trial(NamedTuple):
    """One problem: shots are 0 and seed is None where nothing is drawn."""

    dataset: str
    shots: int | str
    seed: int | None

    @property
    def order(self) -> tuple[str, float, int]:
        """Data set by data set, shots rising."""
        return self.dataset, by_number(self.shots), self.seed or 0


@dataclass(frozen=True)
class Wanted:
    """Which rows of a log count; what is left open counts whole."""

    datasets: Collection[str] = ()
    shots: Collection[int | str] = ()
    model: str | None = None
    draw: str | None = None


ALL = Wanted()


@dataclass(frozen=True)
class Board:
    """Contenders, and the row that each has in a trial.

    Attributes:
        root: the folder that the log lies in.
        option: of the command line that reads there, such as " --home DIR".
        rows: contender -> trial -> its row. What draws nothing has its one row in each trial of
            its data set that another contender has.
        notices: what was left out, a line each.
    """

    root: Path
    option: str
    rows: Mapping[str, Mapping[Trial, Row]]
    notices: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The contenders, in the order asked for or in that of the log."""
        return list(self.rows)

    @property
    def labels(self) -> list[str]:
        """Their names for people: those whose answers depend on other test pictures are marked."""
        return [marked(name, next(iter(own.values()))) for name, own in self.rows.items()]

    @property
    def shots(self) -> list[int | str]:
        """The shot counts of all trials, rising."""
        return sorted({t.shots for own in self.rows.values() for t in own}, key=by_number)

    @property
    def datasets(self) -> list[str]:
        """The data sets of all trials."""
        return sorted({trial.dataset for own in self.rows.values() for trial in own})

    def common(self) -> list[Trial]:
        """The trials that every contender has, in order."""
        shared = set.intersection(*(set(own) for own in self.rows.values()))
        return sorted(shared, key=lambda trial: trial.order)

    def top1(self, name: str, trial: Trial) -> float:
        """The test accuracy of a contender in a trial that it has."""
        return float(self.rows[name][trial].top1_test or 0.0)

    def lacking(self) -> list[str]:
        """The commands that make what some contender lacks of another's trials."""
        wanted = {trial for own in self.rows.values() for trial in own}
        found = []
        for name, own in self.rows.items():
            settings = [part for part in name.split("@") if "=" in part]
            missing = sorted(wanted - set(own), key=lambda trial: trial.order)
            for dataset in dict.fromkeys(trial.dataset for trial in missing):
                trials = [trial for trial in missing if trial.dataset == dataset]
                like = next(iter(own.values()))
                found.append(compare_command(like, trials, settings, self.option))
        return found


def board(
    root: Path,
    asked: Sequence[str] = (),
    wanted: Wanted = ALL,
    *,
    option: str = "",
    notice: Callable[[str], None] = lambda text: None,
) -> Board:
    """The contenders of a log.

    Rows count that can be compared: of the encoder, and on each data set of the test pictures,
    labels and sampling procedure, that were logged last, by the newest versions of their methods.

    Args:
        root: the folder that the log lies in.
        asked: contenders; by default all.
        wanted: which rows count.
        option: of the command line that reads there.
        notice: called with a line for the user where lines of the log cannot be read.

    Raises:
        StoreError: the log has no such rows, or a name means several contenders.
        UsageError: a name means no method, or two mean the same contender.
    """
    logged = [row for row in rows_of(root, notice=notice).values() if row.top1_test is not None]
    found, notices = _comparable(_counting(logged, wanted))
    if not found:
        raise _none(root, logged, asked, wanted, option)
    names = _names(found)
    by_name: dict[str, list[Row]] = {}
    for row in found:
        by_name.setdefault(names[row.row_id], []).append(row)
    if asked:
        meant = [_meant(one, by_name, root, option) for one in asked]
        if len(set(meant)) < len(meant):
            raise UsageError(
                f"{' and '.join(asked)} are not all different",
                where=", ".join(meant),
                fix="name each contender once",
            )
        by_name = {name: by_name[name] for name in meant}
    trials, doubled = _trials(by_name)
    if doubled:
        notices = (
            *notices,
            f"{_rows(doubled)} of one name and trial left out: the last logged count",
        )
    return Board(root, option, trials, notices)


def marked(name: str, row: Row) -> str:
    """A name with the mark of a row whose answers depend on other test pictures."""
    return name + named(row).removeprefix(row.method)


def compare_command(
    row: Row, trials: Sequence[Trial], settings: Sequence[str] = (), option: str = ""
) -> str:
    """The command line that makes rows like this one in trials of one data set.

    Args:
        row: it tells method, encoder, policy and draws.
        trials: of one data set.
        settings: NAME=VALUE[,VALUE], each.
        option: where the log is.
    """
    encoder = ["--model", row.model, "--pretrained", row.pretrained]
    words = ["--dataset", trials[0].dataset, *encoder, "--methods", row.method]
    shots = sorted({trial.shots for trial in trials}, key=by_number)
    if row.shots:
        words += ["--shots", ",".join(map(str, shots))]
        words += ["--seeds", str(max(trial.seed or 1 for trial in trials))]
        draw = "FILE" if row.draw == "file" else row.draw  # which one it was nobody noted
        words += ["--select", row.select, "--draw", draw]
    if row.recipe:
        words += ["--recipe", row.recipe]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(["cacheclip", "compare", *words]) + option


def _counting(rows: Sequence[Row], wanted: Wanted) -> list[Row]:
    """The rows that the user's options leave; what draws nothing counts for all shots."""
    name, _, weights = (wanted.model or "").partition("@")
    return [
        row
        for row in rows
        if (
            not wanted.datasets
            or {row.dataset, row.dataset.rpartition("/")[2]} & {*wanted.datasets}
        )
        and (not wanted.shots or not row.shots or row.shots in wanted.shots)
        and name in ("", row.model)
        and weights in ("", row.pretrained)
        and (not row.shots or wanted.draw in (None, row.draw))
    ]


def _comparable(rows: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """The rows that agree with those logged last in all that makes accuracies comparable."""
    notices = []
    rules: list[tuple[str, Callable[[Row], Hashable], Callable[[Row], Hashable]]] = [
        ("of other encoders (--model)", lambda row: 0, lambda row: (row.model, row.pretrained)),
        (
            "on other test pictures or labels",
            lambda row: (row.dataset, row.classes),
            lambda row: (row.test_id, row.labels, row.protocol_version),
        ),
        (
            "of other draws (--draw)",
            lambda row: (row.dataset, row.classes, row.shots == 0),
            lambda row: row.draw,
        ),
        (
            "of other versions of their methods",
            lambda row: row.method,
            lambda row: row.method_version,
        ),
        (
            "chosen by other versions of their policies",
            lambda row: (row.method, row.select),
            lambda row: row.choice_version,
        ),
    ]
    for what, group, key in rules:
        last = {group(row): key(row) for row in rows}
        kept = [row for row in rows if last[group(row)] == key(row)]
        if left_out := len(rows) - len(kept):
            notices.append(f"{_rows(left_out)} {what} left out: the last logged count")
        rows = kept
    return list(rows), tuple(notices)


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """Each row's contender, by row_id: the method with the parts in which its rows differ.

    Where a method has no settings, every policy chooses the same.
    """
    policies: dict[str, set[str]] = {}
    recipes: dict[str, set[str | None]] = {}
    peers: dict[tuple[object, ...], list[Row]] = {}  # they differ in settings and seeds at most
    for row in rows:
        policies.setdefault(row.method, set()).add(row.select if row.hparams else "")
        recipes.setdefault(row.method, set()).add(row.recipe)
        key = (row.dataset, row.method, row.select, row.recipe, row.shots)
        peers.setdefault(key, []).append(row)
    names = {}
    for own in peers.values():
        told = _settings_told(own)
        for row in own:
            parts = [row.method]
            if len(policies[row.method]) > 1:
                parts.append(row.select)
            if len(recipes[row.method]) > 1 and row.recipe:
                parts.append(row.recipe)
            names[row.row_id] = "@".join([*parts, *told[row.row_id]])
    return names


def _settings_told(peers: Sequence[Row]) -> dict[str, list[str]]:
    """NAME=VALUE of the settings in which rows were asked to differ, by row_id.

    Under `fixed` the method's constants need none. Where a policy chose, those count that competed
    with no other value: they were given.
    """
    given: dict[str, dict[str, Value]] = {}
    for row in peers:
        points = [point["hparams"] for point in row.curve or ()]
        free = {n for n in row.hparams if len({point.get(n) for point in points}) > 1}
        given[row.row_id] = {n: value for n, value in row.hparams.items() if n not in free}
    names = dict.fromkeys(name for own in given.values() for name in own)
    varied = [n for n in names if len({own.get(n) for own in given.values()}) > 1]
    return {
        row.row_id: [
            f"{name}={exact(row.hparams[name])}"
            for name in varied
            if name in given[row.row_id] and not row.constants
        ]
        for row in peers
    }


def _trials(by_name: Mapping[str, Sequence[Row]]) -> tuple[dict[str, dict[Trial, Row]], int]:
    """The row of each contender in each trial, and how many rows a later one stands for."""
    of_set: dict[str, set[Trial]] = {}
    for row in (row for own in by_name.values() for row in own):
        of_set.setdefault(row.dataset, set()).add(_trial(row))
    met: dict[str, list[Trial]] = {}
    for dataset, there in of_set.items():
        drawn = {trial for trial in there if trial.shots}
        seeded = {trial for trial in there if trial.seed is not None}
        met[dataset] = sorted(drawn or seeded or there, key=lambda trial: trial.order)
    found: dict[str, dict[Trial, Row]] = {}
    doubled = 0
    for name, own in by_name.items():
        found[name] = {}
        for row in own:
            everywhere = [t for t in met[row.dataset] if row.seed in (None, t.seed)]
            trials = [_trial(row)] if row.shots else everywhere
            doubled += any(t in found[name] and found[name][t].select == row.select for t in trials)
            found[name] |= dict.fromkeys(trials, row)
    return found, doubled


def _trial(row: Row) -> Trial:
    return Trial(row.dataset, row.shots, row.seed)


def _meant(asked: str, by_name: Mapping[str, Sequence[Row]], root: Path, option: str) -> str:
    """The one contender that a name means."""
    method, *parts = asked.split("@")
    meant = [
        name
        for name, own in by_name.items()
        if own[0].method == method and all(_fits(part, own[0]) for part in parts)
    ]
    plain = [name for name in meant if "=" not in name]  # by constants
    for found in ([asked] if asked in by_name else [], meant, plain):
        if len(found) == 1:
            return found[0]
    if meant:
        raise StoreError(
            f"{asked} means {len(meant)} contenders",
            where=str(root / LOG),
            fix=f"name one: {some([shlex.quote(name) for name in meant])}",
        )
    known = [name for name, own in by_name.items() if own[0].method == method]
    if known:
        raise StoreError(
            f"the log has no rows of {asked}", where=str(root / LOG), fix=instead(asked, known)
        )
    raise absent(method, Board(root, option, _trials(by_name)[0]))


def absent(method: str, board: Board) -> CacheclipError:
    """A method has no rows: how to make them where those of others are."""
    where = str(board.root / LOG)
    if method not in method_names():
        fix = instead(method, method_names(), see="cacheclip methods")
        return UsageError(f"no method {method!r}", where=where, fix=fix)
    like = list(list(board.rows.values())[-1].values())[-1]
    drawn = [t for own in board.rows.values() for t in own if t.dataset == like.dataset]
    fix = compare_command(replace(like, method=method, recipe=None), drawn, option=board.option)
    return StoreError(f"the log has no rows of {method}", where=where, fix=fix)


def _fits(part: str, row: Row) -> bool:
    """Whether a part of a contender's name says what is so of a row."""
    name, equals, value = part.partition("=")
    if equals:
        return name in row.hparams and value == exact(row.hparams[name])
    return part in (row.select, row.recipe)


def _none(
    root: Path, logged: Sequence[Row], asked: Sequence[str], wanted: Wanted, option: str
) -> StoreError:
    """There are no such rows: what there is, or how to make some."""
    words = [f"--dataset {','.join(wanted.datasets)}"] * bool(wanted.datasets)
    words += [f"--shots {','.join(map(str, wanted.shots))}"] * bool(wanted.shots)
    words += [f"--model {wanted.model}"] * bool(wanted.model)
    words += [f"--draw {wanted.draw}"] * bool(wanted.draw)
    methods = [f"--methods {','.join(dict.fromkeys(a.split('@')[0] for a in asked))}"] * bool(asked)
    what = f"no results of {' '.join(words)}" if logged and words else "no results"
    there = Counter(f"{row.dataset} by {row.model}@{row.pretrained}" for row in logged)
    return StoreError(
        what + (f"; there are of {some(list(there))}" if there else ""),
        where=str(root / LOG),
        fix=" ".join(["cacheclip compare", *words, *methods]) + option,
    )
