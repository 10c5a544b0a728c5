"""Options that several commands share, each defined once."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cacheclip.errors import UsageError

if TYPE_CHECKING:
    from cacheclip.draws import Shots
    from cacheclip.store.home import Home

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


class FilePath(click.Path):
    """A path; an empty one would stand for the current folder, where a variable was not set."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path of what was written."""
        if value == "":
            option = isinstance(param, click.Option)
            name = (param.opts[0] if option else param.human_readable_name) if param else "a path"
            raise UsageError(
                f"{name} is an empty name",
                where=f"{name} ''",
                fix=f"name a {'file' if self.file_okay else 'folder'}"
                + (", or leave it out" if option else ""),
            )
        return super().convert(value, param, ctx)


home: Decorator = click.option(
    "--home",
    type=FilePath(file_okay=False),
    help="Folder of features, results and bundles. [default: $CACHECLIP_HOME, else per user]",
)
results: Decorator = click.option(
    "--results",
    type=FilePath(file_okay=False),
    metavar="DIR",
    help="Folder for rows, predictions and bundles. [default: the home; per user if read-only]",
)
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
model: Decorator = click.option(
    "--model", metavar="NAME", help="open_clip model name, or NAME@TAG."
)
pretrained: Decorator = click.option(
    "--pretrained", metavar="TAG|FILE", help="Its weights: a tag of open_clip, or a file."
)
aux: Decorator = click.option(
    "--aux",
    metavar="NAME@TAG",
    help="A second encoder, whose features are cached too: amu reads it, and gp with encoders=2.",
)
_POLICIES = (
    "fixed (constants), fixed-from-imagenet (those that authors carry over), fewshot-val (min(K, "
    "4) validation images a class), full-val (all of them), support-loo (support images, left out "
    "in turn); or test-oracle (the test images: no result, and marked as none)."
)
_POLICY = "[default: full-val for data of your own, else fewshot-val; support-loo without val]"
select: Decorator = click.option(
    "--select", metavar="POLICY", help=f"How settings are chosen: {_POLICIES} {_POLICY}"
)
selects: Decorator = click.option(
    "--select",
    metavar="POLICY[,POLICY]",
    callback=lambda ctx, param, value: names_of(value),
    help=f"How settings are chosen: {_POLICIES} Several share the fits that they have in common. "
    + _POLICY,
)
draw: Decorator = click.option(
    "--draw",
    metavar="NAME|FILE",
    help="Support sets: ranked (ours), coop (CoOp's of that seed), given (they came with the "
    "arrays), or a file of ids such as RESULTS/draws/ID.json. [default: given if any are, else "
    "ranked]",
)
recipe: Decorator = click.option(
    "--recipe",
    metavar="NAME",
    help="Constants of a method whose paper and released code differ: as-code or as-paper. "
    "[default: the first that `cacheclip methods NAME` shows]",
)
settings: Decorator = click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE[,VALUE]",
    multiple=True,
    callback=lambda ctx, param, value: settings_of(value),
    help="A setting of a method, METHOD.NAME=VALUE where several methods have it. Repeatable. "
    "`cacheclip methods METHOD` lists them with their ranges.",
)
classes: Decorator = click.option(
    "--classes",
    metavar="NAME[,NAME]|FILE",
    callback=lambda ctx, param, value: classes_of(value),
    help="The classes that count: all, base or new (the first and the second half), their names, "
    "or a file with a name a line. [default: all]",
)
fewer: Decorator = click.option(
    "--fewer",
    type=click.Choice(["error", "keep"]),
    default="error",
    show_default=True,
    help="Classes with fewer training images than --shots: an error, or keep what they have.",
)
max_memory: Decorator = click.option(
    "--max-memory",
    metavar="SIZE",
    callback=lambda ctx, param, value: _bytes(value),
    help="Most working memory of a stack, such as 2GB; training on a CPU is fastest in 80MB and "
    "takes no more. [default: 512MB on a CPU, 70 % of what is free on a GPU]",
)
keep: Decorator = click.option(
    "--keep",
    type=click.Choice(["logits"]),
    help="Keep all logits of test and held-out images with the predictions, in float16.",
)
per_class: Decorator = click.option(
    "--per-class",
    is_flag=True,
    help="Recall of each class, the most frequent confusions, and the wrong pictures by name.",
)
verbose: Decorator = click.option(
    "-v", "--verbose", is_flag=True, help="Say how many variants run at once."
)


of_datasets: Decorator = click.option(
    "--dataset",
    "datasets",
    metavar="NAME[,NAME]",
    callback=lambda ctx, param, value: names_of(value),
    help="Results on these data sets. [default: all]",
)
of_shots: Decorator = click.option(
    "--shots",
    metavar="K[,K]",
    callback=lambda ctx, param, value: shot_counts(ctx, param, value) if value else (),
    help="Results at these shots. [default: all]",
)
of_model: Decorator = click.option(
    "--model",
    metavar="NAME",
    help="Results by this encoder, NAME or NAME@TAG. [default: that of the row logged last]",
)
of_classes: Decorator = click.option(
    "--classes",
    metavar="NAME",
    default="all",
    show_default=True,
    help="Results on these classes: all, base, new; base-to-new or base-to-all, learned from base.",
)
of_test_on: Decorator = click.option(
    "--test-on",
    metavar="NAME",
    help="Results on this data set, of fits on another. [default: on their own]",
)
of_draw: Decorator = click.option(
    "--draw",
    type=click.Choice(["ranked", "coop", "given", "file"]),
    help="Results on support sets that were drawn so. [default: as logged last]",
)
results_read: Decorator = click.option(
    "--results",
    type=FilePath(file_okay=False),
    metavar="DIR",
    help="Folder of the results log. [default: the home]",
)


def log_of(home: "Home", results: Path | None) -> tuple[Path, str]:
    """The folder of the results log, and what a command line adds to read and write there."""
    from cacheclip.files.regular import expanded

    if results is None:
        return home.root, home.option
    root = expanded(results).absolute()
    return root, f"{home.option} --results {shlex.quote(str(root))}"


def _bytes(value: str | None) -> int | None:
    """512MB, 2GB or a plain number, as bytes."""
    if value is None:
        return None
    number, unit = value[:-2], UNITS.get(value[-2:].upper(), 0)
    try:
        size = int(float(number) * unit) if unit else int(value)
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a size such as 512MB or 2GB")
    return size


def shots(ctx: click.Context, param: click.Parameter, value: str) -> "Shots":
    """Callback of an option: a whole number of 1 or more, or `all`."""
    return _shots(value, "is neither a whole number nor all")


def shot_counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple["Shots", ...]:
    """Callback of an option: such numbers, or `all`, with commas between them, each once."""
    wrong = "is not whole numbers, or all, with commas between"
    return tuple(dict.fromkeys(_shots(part, wrong, value) for part in value.split(",")))


def _shots(part: str, wrong: str, value: str | None = None) -> "Shots":
    if part.strip() == "all":
        return "all"
    try:
        number = int(part)
    except ValueError:
        raise click.BadParameter(f"{value or part!r} {wrong}") from None
    if number < 1:
        raise click.BadParameter(f"{number} is less than 1")
    return number


def names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Callback of an option: names with commas between them, each once."""
    return names_of(value)


def names_of(value: str | None) -> tuple[str, ...]:
    """Names with commas between them, each once."""
    return tuple(dict.fromkeys(part.strip() for part in (value or "").split(",") if part.strip()))


def classes_of(value: str | None) -> tuple[str, ...]:
    """Names of classes with commas between them, or the lines of a file.

    Raises:
        CacheclipError: the file cannot be read.
    """
    from cacheclip.files import regular

    if value and regular.expanded(Path(value)).is_file():
        lines = regular.read_text(regular.expanded(Path(value))).splitlines()
        return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return names_of(value)


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Settings, `[METHOD.]NAME=VALUE[,VALUE]` each, as values.

    Returns:
        Setting -> its values; method -> such settings of its own.

    Raises:
        UsageError: a text gives no value.
    """
    of_any: dict[str, list[float | int | str]] = {}
    scoped: dict[str, dict[str, list[float | int | str]]] = {}
    for text in texts:
        named, _, values = text.partition("=")
        if not values:
            raise UsageError(
                f"--set {text} gives no value", where="--set", fix="write --set name=value"
            )
        method, _, name = named.rpartition(".")
        known = (scoped.setdefault(method, {}) if method else of_any).setdefault(name, [])
        known += map(_number_or_word, values.split(","))
    return {**of_any, **scoped}


def _number_or_word(text: str) -> float | int | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
