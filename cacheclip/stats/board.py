"""The rows of a log as contenders that met in trials."""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cacheclip.errors import SHOWN, StoreError, UsageError, instead, some
from cacheclip.results import LOG, Row, rows as rows_of
from cacheclip.select import names as policy_names
from cacheclip.stats import contenders, missing, trials
from cacheclip.stats.comparable import LeftOut, Wanted, comparable, counting
from cacheclip.stats.contenders import Given, marked
from cacheclip.stats.missing import Makers
from cacheclip.stats.trials import Trial
from cacheclip.study.table import by_number

ALL = Wanted()


@dataclass(frozen=True)
class Board:
    """Contenders, and the row that each has in a trial.

    Attributes:
        makers: the commands that make more rows.
        rows: contender -> trial -> its row. What draws nothing has its one row in each trial of
            its data set that another contender has.
        given: contender -> the settings that it was given.
        left_out: the rows that do not count.
        averaged: ids of the rows whose test accuracy here is the mean of several starts.
    """

    makers: Makers
    rows: Mapping[str, Mapping[Trial, Row]]
    given: Mapping[str, Given]
    left_out: Sequence[LeftOut] = ()
    averaged: Collection[str] = ()

    @property
    def root(self) -> Path:
        """The folder that the log lies in."""
        return self.makers.root

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

    @property
    def on(self) -> str:
        """Their data set in words, where there is one."""
        return f" on {self.datasets[0]}" if len(self.datasets) == 1 else ""

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
            lost = sorted(wanted - set(own), key=lambda trial: trial.order)
            for dataset in dict.fromkeys(trial.dataset for trial in lost):
                here = [trial for trial in lost if trial.dataset == dataset]
                found += self.makers.of(next(iter(own.values())), here, self.given[name])
        return found

    def without_sweeps(self) -> tuple["Board", list[str]]:
        """The contenders without those that are one of many settings, and which these are of."""
        swept: dict[str, list[str]] = {}
        for name, own in self.rows.items():
            if next(iter(own.values())).constants is False:
                of = "@".join(part for part in name.split("@") if "=" not in part)
                swept.setdefault(of, []).append(name)
        many = {of: names for of, names in swept.items() if len(names) > SHOWN}
        left_out = {name for names in many.values() for name in names}
        kept = {name: own for name, own in self.rows.items() if name not in left_out}
        return replace(self, rows=kept), [f"{len(x)} settings of {of}" for of, x in many.items()]


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
    labels, sampling procedure and, at the same shots and seed, support pictures, that were logged
    last, by the newest versions of their methods.

    Args:
        root: the folder that the log lies in.
        asked: contenders; by default all.
        wanted: which rows count.
        option: of the command line that reads there.
        notice: called with a line for the user where rows are left out.

    Raises:
        StoreError: the log has no such rows, or a name means several contenders.
        UsageError: a name means no method, or two mean the same contender.
    """
    logged = [row for row in rows_of(root, notice=notice).values() if row.top1_test is not None]
    found, left_out = comparable(counting(logged, wanted), root)
    for lost in left_out:
        notice(str(lost))
    drawn = {row.shots for row in found} & {*wanted.shots}
    if not found or (wanted.shots and not drawn):
        raise missing.none(root, logged, asked, wanted, option)
    by_name = contenders.by_name(found)
    given = contenders.given(found)
    everything = Makers(root, option, trials.of_contenders(by_name)[0])
    if asked:
        meant = [_meant(one, by_name, everything, left_out) for one in asked]
        if len(set(meant)) < len(meant):
            raise UsageError(
                f"{' and '.join(asked)} are not all different",
                where=", ".join(meant),
                fix="name each contender once",
            )
        by_name = {name: by_name[name] for name in meant}
    rows, doubled, averaged = trials.of_contenders(by_name)
    if doubled:
        notice(str(LeftOut(doubled, "of one name and trial")))
    own = {name: given[rows[-1].row_id] for name, rows in by_name.items()}
    return Board(everything, rows, own, left_out, averaged)


def _meant(
    asked: str,
    by_name: Mapping[str, Sequence[Row]],
    makers: Makers,
    left_out: Sequence[LeftOut],
) -> str:
    """The one contender that a name means."""
    method, *parts = asked.split("@")
    meant = [
        name
        for name, own in by_name.items()
        if own[0].method == method and all(contenders.fits(part, own[0]) for part in parts)
    ]
    plain = [name for name in meant if "=" not in name]  # by constants
    for found in ([asked] if asked in by_name else [], meant, plain):
        if len(found) == 1:
            return found[0]
    where = str(makers.root / LOG)
    if meant:
        meant.sort(key=lambda name: name.count("="))
        raise StoreError(
            f"{asked} means {len(meant)} contenders",
            where=where,
            fix=f"name one: {some([shlex.quote(name) for name in meant])}",
        )
    known = [name for name, own in by_name.items() if own[0].method == method]
    recipes = {row.recipe for own in by_name.values() for row in own if row.method == method}
    if known and any(
        part not in policy_names() and part not in recipes and "=" not in part for part in parts
    ):
        raise StoreError(
            f"the log has no rows of {asked}",
            where=where,
            fix=instead(asked, known, see=f"cacheclip stats -v{makers.option}"),
        )
    raise missing.absent(asked, makers, left_out)
