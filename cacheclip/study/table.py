"""Result rows as the table that people read: methods down, shots across, percent.

What the numbers are worth stands in lines below it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import ceil, floor, inf
from statistics import mean, stdev

from cacheclip.draws import ALL, Draw, Shots
from cacheclip.errors import is_in_python
from cacheclip.metrics import wilson
from cacheclip.results import Row
from cacheclip.select import CONSTANT

Table = tuple[list[str], list[list[str]]]
Columns = dict[int | str, list[Row]]  # shots -> the rows of a cell
Value = float | int | str

NAMED = 8  # names in a line before it says how many more there are
FEW = 100  # test pictures
ORACLE = "test-oracle"
VALIDATION = "validation pictures"


def summary(rows: Sequence[Row]) -> Table:
    """Headers and cells: test accuracy, over several seeds as mean and standard deviation.

    With one seed there is no deviation, and the 95 % interval of the test pictures stands there.
    Zero-shot reads no shots, so its one figure stands in every column. Rows whose settings were
    chosen share a line; where nothing chose, each combination of settings has its own.
    """
    shots, lines = by_line(rows)
    headers = ["method", *(_shots([k]) for k in shots)]
    several = _several(lines)
    cells = [
        [label, *(cell_text(columns.get(k, []), several=several) for k in shots)]
        for label, columns in lines.items()
    ]
    return headers, cells


def notes(
    rows: Sequence[Row], draws: Mapping[Shots, Sequence[Draw]], *, chooses: bool
) -> Iterator[str]:
    """What the numbers of the table are worth, a line each.

    Args:
        rows: those of the table.
        draws: shots -> the draws of its seeds.
        chooses: whether settings were chosen on validation pictures.
    """
    tested = _tested(rows)
    if not tested:
        return
    _, lines = by_line(tested)
    pictures = f"{tested[0].n_test} test picture{'s' if tested[0].n_test > 1 else ''}"
    if _several(lines):
        yield f"accuracy in %, mean ± standard deviation {_over(tested, draws, chooses=chooses)}"
        widest = 100 * max(_half_width(row) for row in tested)
        pictures += f": each number is good to {widest:.1f} points (95 %, Wilson)"
    else:
        yield "accuracy in %, in brackets its 95 % interval (Wilson, rounded outward)"
    constants = [row.constant_test for row in tested if row.constant_test is not None]
    always = f"; always answering one class gets {percent(constants[0])}" if constants else ""
    yield pictures + always
    yield from honest(tested[0])
    gaps = [abs(row.macro_test - (row.top1_test or 0)) for row in tested if row.macro_test]
    if (apart := max(gaps, default=0)) >= 0.01:
        yield (
            f"macro accuracy, where every class counts the same, is up to {100 * apart:.1f} points "
            f"apart: macro_test in {'the rows' if is_in_python() else '--json'}"
        )
    zero_shot = next((r.top1_test for r in tested if r.method == "zero-shot"), None)
    for name, floor_ in (("zero-shot", zero_shot), ("one class", max(constants, default=None))):
        behind = list(_behind(lines, floor_))
        if behind:
            yield f"warning: below {name} ({percent(floor_)}): {listed(behind)}"


def honest(row: Row) -> Iterator[str]:
    """What is to be known of the test pictures before a number is believed."""
    if row.untested:
        yield (
            f"no test pictures of {len(row.untested)} of {row.n_classes} classes: "
            f"{listed(row.untested)}"
        )
    if row.n_test < FEW:
        low, high = wilson(0.5, row.n_test)
        yield (
            f"{row.n_test} test picture{'s' if row.n_test > 1 else ''}: differences below "
            f"{ceil(50 * (high - low))} points mean nothing"
        )


def _over(rows: Sequence[Row], draws: Mapping[Shots, Sequence[Draw]], *, chooses: bool) -> str:
    """What the rows of a cell differ in, draws and the starts of each."""
    by_draw: dict[tuple[str, int | str, int | None], set[int | None]] = {}
    for row in rows:
        by_draw.setdefault((row.method, row.shots, row.seed), set()).add(row.init_seed)
    starts = max(map(len, by_draw.values()))
    if all(len(own) < 2 for own in draws.values()):
        return f"over {starts} starts of one draw"
    return spread(draws, chooses=chooses) + (f", {starts} starts each" if starts > 1 else "")


def spread(draws: Mapping[Shots, Sequence[Draw]], *, chooses: bool) -> str:
    """What the rows of a cell differ in.

    Two draws are the same where they hold the same pictures, in whatever order.
    """
    kinds: dict[str, list[Shots]] = {}
    for shots, own in draws.items():
        support = {frozenset(draw.support) for draw in own}
        val = {frozenset(draw.val) for draw in own}
        if len(support) > 1:
            kind = f"over {len(own)} draws"
        elif chooses and len(val) > 1:
            kind = f"over {len(own)} draws of validation pictures (same support)"
        else:
            kind = f"over {len(own)} starts alone (same draws)"
        if len(own) > 1:
            kinds.setdefault(kind, []).append(shots)
    first, *others = kinds.items()
    parts = [first[0], *(f"at {_shots(shots)} {kind}" for kind, shots in others)]
    return ", ".join(parts)


def named(row: Row) -> str:
    """Its method, with what sets it apart: not verified, how it answers, tuned on test, and more.

    A method without settings has none that could be tuned; a name may say `-like` itself.
    """
    marks = ["like"] * bool(row.unverified and not row.method.endswith("-like"))
    marks += [] if row.setting in (None, "inductive") else [str(row.setting)]
    marks += ["tuned on test"] if row.select == ORACLE and (row.hparams or row.error) else []
    marks += ["new shots"] if row.eval_draw_id else []
    marks += [f"{len(row.encoders)} encoders"] if len(row.encoders) > 1 else []
    return f"{row.method} ({', '.join(marks)})" if marks else row.method


def of_shots(shots: int | str) -> str:
    """A shot count in words: `1 shot`, `4 shots`, `all shots`."""
    return f"{shots} shot{'' if shots == 1 else 's'}"


def percent(fraction: float | None) -> str:
    """A fraction for people."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def short(value: Value) -> str:
    """A setting for people: a number that a search found has more digits than it means."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def exact(value: Value) -> str:
    """A setting as the user gave it."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def by_number(shots: int | str) -> float:
    """The order of shot counts: `all` comes last."""
    return inf if shots == ALL else float(shots)


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def of_one_kind(rows: Sequence[Row]) -> list[Row]:
    """Of rows that pictures chose, those whose accuracies there can be ranked.

    Validation pictures go first; fewer than these were left out of a support set, by other fits.
    """
    held = [row for row in rows if row.chosen_on in (None, VALIDATION)]  # None: an older row
    return held or [row for row in rows if row.chosen_on == rows[0].chosen_on]


def by_line(rows: Sequence[Row]) -> tuple[list[int | str], dict[str, Columns]]:
    """The shots of the columns, and line by line the rows of each cell.

    A line's label names the settings, and the policy, in which rows of its method and shots differ.
    Where a method has no settings, what several policies made of it is one line.
    """
    settled = {row.method for row in rows if row.hparams or row.error}
    rows = _once(rows, settled)
    shots = sorted({row.shots for row in rows} - {0}, key=by_number) or [0]
    peers: dict[tuple[str, int | str, str], list[Row]] = {}
    policies: dict[str, set[str]] = {}
    for row in rows:
        peers.setdefault((row.method, row.shots, row.select), []).append(row)
        policies.setdefault(row.method, set()).add(row.select if row.method in settled else "")
    varied = {key: _varied(own) for key, own in peers.items()}
    lines: dict[str, Columns] = {}
    for row in rows:
        told = varied[row.method, row.shots, row.select] if row.select in CONSTANT else []
        policy = f"@{row.select}" if len(policies[row.method]) > 1 else ""
        marks = named(row).removeprefix(row.method)
        settings = [f"{n}={exact(row.hparams[n])}" for n in told if n in row.hparams]
        columns = lines.setdefault(" ".join([row.method + policy + marks, *settings]), {})
        for k in [row.shots] if row.shots else shots:
            columns.setdefault(k, []).append(row)
    return shots, lines


def _once(rows: Sequence[Row], settled: Collection[str]) -> list[Row]:
    """The rows, but of a method without settings those of one policy a cell: all are the same.

    Args:
        rows: of a table.
        settled: the methods that have settings.
    """
    kept, met = [], set()
    for row in rows:
        cell = (row.dataset, row.eval_dataset, row.classes, row.learned_classes, row.recipe)
        run = (row.method, row.shots, row.draw_id, row.seed, row.init_seed)
        if row.method in settled or (cell, run) not in met:
            kept.append(row)
        met.add((cell, run))
    return kept


def _varied(rows: Sequence[Row]) -> list[str]:
    """The settings in which these rows differ."""
    names = dict.fromkeys(name for row in rows for name in row.hparams)
    return [name for name in names if len({row.hparams.get(name) for row in rows}) > 1]


def _several(lines: Mapping[str, Columns]) -> bool:
    """Whether a cell of the table is the mean of more than one row."""
    cells = (own for columns in lines.values() for own in columns.values())
    return any(len(_tested(own)) > 1 for own in cells)


def _tested(rows: Sequence[Row]) -> list[Row]:
    """The rows that went well."""
    return [row for row in rows if row.top1_test is not None]


def cell_text(rows: Sequence[Row], *, several: bool) -> str:
    """Test accuracy over several rows; of one the interval, unless other cells have several."""
    values = [100 * row.top1_test for row in rows if row.top1_test is not None]
    if not values:
        return "failed" if rows else ""
    if len(values) > 1:
        return f"{mean(values):.1f} ± {stdev(values):.1f}"
    if several:
        return f"{values[0]:.1f}"
    low, high = wilson(values[0] / 100, rows[0].n_test)
    return f"{values[0]:.1f} ({floor(100 * low)}-{ceil(100 * high)})"


def _half_width(row: Row) -> float:
    low, high = wilson(row.top1_test or 0.0, row.n_test)
    return (high - low) / 2


def _behind(lines: Mapping[str, Columns], floor_: float | None) -> Iterator[str]:
    """The cells whose mean lies below a share, line by line."""
    for label, columns in lines.items():
        means = {k: mean(row.top1_test or 0.0 for row in own) for k, own in columns.items()}
        shots = [k for k, value in means.items() if floor_ is not None and value < floor_ - 1e-9]
        if shots and not label.startswith("zero-shot"):
            yield f"{label} at {_shots(shots)}"


def _shots(shots: Sequence[int | str]) -> str:
    return f"{', '.join(map(str, shots))} shot{'' if list(shots) == [1] else 's'}"
