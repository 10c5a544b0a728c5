"""What there is to fit and what its settings may be, for people who look before they fit.

The list is read from the files' syntax: it costs no torch, which every method's import does.
"""

import ast
import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacheclip.methods import METHODS, names

if TYPE_CHECKING:
    from cacheclip.methods.base import Method

CLOSED_FORM, TRAINED, INDUCTIVE = "closed form", "training", "inductive"
SHOTS = (1, 2, 4, 8, 16)  # at which constants that depend on them are shown
SHOWN = 8  # values of a grid that are all shown
# What an extraction keeps on request alone, by what a method reads: the word for it, the option.
ON_REQUEST = {
    "tower": ("text tower", "--layers text-tower"),
    "patches": ("patches", "--layers patches"),
    "image/views": ("query views", "--query-views N"),
    "cupl": ("sentences", "--sentences FILE"),
    "aux": ("second encoder", "--model NAME@TAG"),
}


@dataclass(frozen=True)
class Entry:
    """A method in one line.

    Attributes:
        name: as `--method` takes it.
        fitted: "closed form" or "training".
        setting: what an answer depends on; "inductive", "transductive" or "online".
        reads: "pictures" to learn from, "text", and what an extraction keeps on request alone.
        trains: how many numbers steps move, as `Trained.size` has it; "" where there are none.
        paper: arXiv number, or where the method comes from.
        says: the first line of its text.
    """

    name: str
    fitted: str
    setting: str
    reads: str
    trains: str
    paper: str
    says: str

    def as_json(self) -> dict[str, Any]:
        """The entry as `--json` prints it."""
        return asdict(self)

    def as_cells(self) -> list[str]:
        """The entry as a line of a table."""
        return [self.name, self.fitted, self.setting, self.reads, self.trains, self.paper]


@dataclass(frozen=True)
class Domain:
    """One setting of a method, as `cacheclip methods` shows it.

    Attributes:
        name: as `--set` takes it.
        default: its constant.
        by_shots: its constants at each of `SHOTS`; empty where these do not count.
        scales: p, where constant and grid are times (s / 100)^p at logit scale s; for the rate of
            SGD that is twice what it is for Adam's.
        words: the words that it may be.
        low: the least number that it may be, None where there is none.
        high: the greatest.
        whole: whether its numbers are whole; None where it is a word.
        grid: what is tried where validation pictures choose.
        searched: least and greatest number that a search looks at, None where there is none.
        elsewhere: what the paper calls it, and after a semicolon its released code.
    """

    name: str
    default: float | int | str
    by_shots: tuple[float | int | str, ...]
    scales: float
    words: tuple[str, ...]
    low: float | None
    high: float | None
    whole: bool | None
    grid: tuple[float | int | str, ...]
    searched: tuple[float, float] | None
    elsewhere: str

    def as_cells(self) -> list[str]:
        """The setting as a line of a table."""
        default = "by shots" if self.by_shots else f"{self.default}"
        scales = f"s^{self.scales:g}" if self.scales else ""
        return [self.name, default, scales, self.may_be(), self._tried(), self.elsewhere]

    def _tried(self) -> str:
        """The grid in words, a long one by its ends."""
        values = [str(value) for value in self.grid]
        if len(values) > SHOWN:
            values = [*values[:2], "...", f"{values[-1]} ({len(values)} values)"]
        span = "" if self.searched is None else " from {:g} to {:g}".format(*self.searched)
        return ", ".join(values) + span

    def may_be(self) -> str:
        """Its domain in words."""
        numbers = []
        if self.whole is not None:
            kind = "whole number" if self.whole else "number"
            low = "" if self.low is None else f" from {self.low:g}"
            high = "" if self.high is None else f" to {self.high:g}"
            numbers = [f"{kind}{low}{high}"]
        return ", ".join([*numbers, *self.words])


@dataclass(frozen=True)
class Described:
    """A method in full.

    Attributes:
        name: as `--method` takes it.
        paper: arXiv number, or where the method comes from.
        fitted: "closed form" or "training".
        setting: what an answer depends on; "inductive", "transductive" or "online".
        text: what its file says of it, a line each.
        reads: of "support", "query", "text" and "encoder" what a fit and its answers read.
        extract: the options of `cacheclip extract` that keep what a plain extraction does not.
        trains: how many numbers steps move, as `Trained.size` has it; "" where there are none.
        unverified: what of its structure could not be held against its paper or release.
        transfers: whether it serves classes that it did not learn from.
        reads_new_shots: whether it reads support pictures of those.
        settings: all of its settings.
        recipes: recipe -> settings in which it differs from the defaults.
    """

    name: str
    paper: str
    fitted: str
    setting: str
    text: tuple[str, ...]
    reads: Mapping[str, tuple[str, ...]]
    extract: tuple[str, ...]
    trains: str
    unverified: str
    transfers: bool
    reads_new_shots: bool
    settings: tuple[Domain, ...]
    recipes: Mapping[str, Mapping[str, float | int | str]]

    def as_json(self) -> dict[str, Any]:
        """The method as `--json` prints it."""
        return asdict(self)

    def as_cells(self) -> list[list[str]]:
        """Its settings as lines of a table under `SETTINGS`."""
        return [own.as_cells() for own in self.settings]

    @property
    def needs(self) -> list[str]:
        """A line for what it reads, what has to be extracted for it, and what it trains."""
        parts = [f"{of} {', '.join(names)}" for of, names in self.reads.items() if names]
        lines = [f"reads: {'; '.join(parts)}"]
        lines += [f"needs: cacheclip extract {' '.join(self.extract)}"] * bool(self.extract)
        if any(layer.startswith("aux:") for layer in self.reads["query"]):
            lines[-1] += ", then --aux NAME@TAG of fit and compare"
        lines += [f"trains: {self.trains} numbers"] * bool(self.trains)
        lines += [f"not verified: {self.unverified}"] * bool(self.unverified)
        if self.transfers:
            by = ", by their text and shots" if self.reads_new_shots else ""
            lines += [f"serves classes that it did not learn from{by}"]
        return lines

    @property
    def constants(self) -> list[str]:
        """A line for each thing on which constants depend, and one a recipe."""
        lines = [
            f"{own.name} at {', '.join(map(str, SHOTS))} shots: {', '.join(map(str, own.by_shots))}"
            for own in self.settings
            if own.by_shots
        ]
        scaled = [own.name for own in self.settings if own.scales]
        if scaled:
            lines.append(
                "s^p: constant and grid are of logit scale 100, and times (s / 100)^p at scale s"
            )
        if "lr" in scaled:
            lines.append("lr is so with the optimizer of its line; s^-2 with sgd, s^-1 with others")
        if scaled and any(ensemble.endswith("raw-mean") for ensemble in self.reads["text"]):
            lines.append("raw text of a norm c that is below 3 or above 30: 10 s / c stands for s")
        return lines + [
            f"--recipe {name}: "
            + (", ".join(f"{k}={v}" for k, v in differs.items()) or "the defaults")
            for name, differs in self.recipes.items()
        ]


LISTED = ("method", "fit by", "answers", "reads", "trains", "paper")
SETTINGS = ("setting", "default", "times", "may be", "tried", "paper; code")


def listed() -> list[Entry]:
    """All methods; loads none of them."""
    return [_entry(name) for name in names()]


def described(name: str) -> Described:
    """A method in full; loads torch.

    Raises:
        UsageError: there is no such method.
    """
    from cacheclip.methods.base import Trained, get

    method = get(name)
    reads = method().reads
    asked = {
        "support": reads.support if method.learns == "support" else (),
        "query": reads.query,
        "text": reads.text,
        "encoder": reads.encoder,
    }
    return Described(
        name=name,
        paper=method.paper,
        fitted=TRAINED if issubclass(method, Trained) else CLOSED_FORM,
        setting=method.setting,
        text=tuple((inspect.getdoc(method) or "").splitlines()),
        reads=asked,
        extract=tuple(option for _, option in _on_request(chain(*asked.values()))),
        trains=method.size if issubclass(method, Trained) else "",
        unverified=method.unverified,
        transfers=method.transfers,
        reads_new_shots=method.reads_new_shots,
        settings=tuple(_domain(method, name) for name in method.table),
        recipes={recipe: dict(differs) for recipe, differs in method.recipes.items()},
    )


def _on_request(read: Iterable[str]) -> list[tuple[str, str]]:
    """The entries of `ON_REQUEST` for names of what is read; a family stands before its colon."""
    names = {name.partition(":")[0] for name in read}
    return [words for name, words in ON_REQUEST.items() if name in names]


def _domain(method: "type[Method]", name: str) -> Domain:
    own = method.table[name]
    constants = [method.by_shots(shots) for shots in SHOTS]
    by_shots = tuple(found.get(name, own.default) for found in constants)
    varies = len({*by_shots}) > 1
    optimizer = method.table.get("optimizer")
    sgd = name == "lr" and optimizer is not None and optimizer.default == "sgd"
    return Domain(
        name=name,
        default=own.default if varies else by_shots[0],
        by_shots=by_shots if varies else (),
        scales=own.power * (2 if sgd else 1),
        words=own.words,
        low=None if own.low == -inf else own.low,
        high=None if own.high == inf else own.high,
        whole=None if isinstance(own.default, str) else isinstance(own.default, int),
        grid=own.grid,
        searched=own.search,
        elsewhere=own.elsewhere,
    )


def _entry(name: str) -> Entry:
    """What the syntax of a method's file says of its class."""
    spec = importlib.util.find_spec(METHODS.path(name, where="the methods of this version"))
    file = Path(str(spec and spec.origin))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    bases = {base.id for base in found.bases if isinstance(base, ast.Name)}
    told = {
        target.id: node.value
        for node in found.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    constants = {
        ast.unparse(node.targets[0]): node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
    }
    asked = {
        keyword.arg: _texts(keyword.value, constants)
        for node in ast.walk(found)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reads"
        for keyword in node.keywords
    }
    setting = ast.literal_eval(told["setting"]) if "setting" in told else INDUCTIVE
    pictures = "" if "learns" in told else "pictures"  # it says so where it learns from none
    read = [pictures, *(word for word, _ in _on_request(chain(*asked.values())))]
    if any(name != "tokens" and not name.startswith("cupl:") for name in asked.get("text", [])):
        read.insert(1, "text")
    return Entry(
        name=name,
        fitted=TRAINED if "Trained" in bases else CLOSED_FORM,
        setting="online" if "Online" in bases else setting,
        reads=", ".join(filter(None, read)),
        trains=ast.literal_eval(told["size"]) if "size" in told else "",
        paper=ast.literal_eval(told["paper"]),
        says=(ast.get_docstring(found) or "").partition("\n")[0],
    )


def _texts(node: ast.expr, constants: Mapping[str, ast.expr]) -> list[str]:
    """The texts of an expression, those that stand for it under a name of the file included."""
    found: list[str] = []
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.append(part.value)
        elif isinstance(part, ast.Name) and part.id in constants:
            found += _texts(constants[part.id], constants)
    return found
