"""What there is to fit and what its settings may be, for people who look before they fit.

The list is read from the files' syntax: it costs no torch, which every method's import does.
"""

import ast
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacheclip.methods import METHODS, names

if TYPE_CHECKING:
    from cacheclip.methods.base import Setting

CLOSED_FORM, TRAINED, INDUCTIVE = "closed form", "training", "inductive"


@dataclass(frozen=True)
class Entry:
    """A method in one line.

    Attributes:
        name: as `--method` takes it.
        fitted: "closed form" or "training".
        setting: what an answer depends on; "inductive", "transductive" or "online".
        reads: "pictures", "text" or both.
        paper: arXiv number, or where the method comes from.
        says: the first line of its text.
    """

    name: str
    fitted: str
    setting: str
    reads: str
    paper: str
    says: str

    def as_json(self) -> dict[str, Any]:
        """The entry as `--json` prints it."""
        return asdict(self)

    def as_cells(self) -> list[str]:
        """The entry as a line of a table."""
        return [self.name, self.fitted, self.setting, self.reads, self.paper]


@dataclass(frozen=True)
class Domain:
    """One setting of a method, as `cacheclip methods` shows it.

    Attributes:
        name: as `--set` takes it.
        default: its constant; what else it depends on stands in the method's text.
        words: the words that it may be.
        low: the least number that it may be, None where there is none.
        high: the greatest.
        whole: whether its numbers are whole; None where it is a word.
        grid: what is tried where validation images choose.
    """

    name: str
    default: float | int | str
    words: tuple[str, ...]
    low: float | None
    high: float | None
    whole: bool | None
    grid: tuple[float | int | str, ...]

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
        settings: all of its settings.
        recipes: recipe -> settings in which it differs from the defaults.
    """

    name: str
    paper: str
    fitted: str
    setting: str
    text: tuple[str, ...]
    settings: tuple[Domain, ...]
    recipes: Mapping[str, Mapping[str, float | int | str]]

    def as_json(self) -> dict[str, Any]:
        """The method as `--json` prints it."""
        return asdict(self)

    def as_cells(self) -> list[list[str]]:
        """Its settings as lines of a table."""
        return [
            [s.name, f"{s.default}", s.may_be(), ", ".join(map(str, s.grid))] for s in self.settings
        ]

    @property
    def recipes_told(self) -> list[str]:
        """A line a recipe."""
        return [
            f"--recipe {name}: "
            + (", ".join(f"{k}={v}" for k, v in differs.items()) or "the defaults")
            for name, differs in self.recipes.items()
        ]


def listed() -> list[Entry]:
    """All methods; loads none of them."""
    return [_entry(name) for name in names()]


def described(name: str) -> Described:
    """A method in full; loads torch.

    Raises:
        UsageError: there is no such method.
    """
    from cacheclip.methods.base import Method, Trained, get

    method = get(name)
    text = inspect.getdoc(method) or ""
    if method.by_shots.__func__ is not Method.by_shots.__func__:  # type: ignore[attr-defined]
        text += f"\n\nConstants: {inspect.getdoc(method.by_shots)}"
    return Described(
        name=name,
        paper=method.paper,
        fitted=TRAINED if issubclass(method, Trained) else CLOSED_FORM,
        setting=method.setting,
        text=tuple(text.splitlines()),
        settings=tuple(_domain(name, own) for name, own in method.table.items()),
        recipes={recipe: dict(differs) for recipe, differs in method.recipes.items()},
    )


def _domain(name: str, own: "Setting") -> Domain:
    return Domain(
        name=name,
        default=own.default,
        words=own.words,
        low=None if own.low == -inf else own.low,
        high=None if own.high == inf else own.high,
        whole=None if isinstance(own.default, str) else isinstance(own.default, int),
        grid=own.grid,
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
    asked = {
        keyword.arg
        for node in ast.walk(found)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reads"
        for keyword in node.keywords
    }
    setting = ast.literal_eval(told["setting"]) if "setting" in told else INDUCTIVE
    nothing = "learns" in told and ast.literal_eval(told["learns"]) == "nothing"
    pictures = "" if nothing else "pictures"
    text = "text" if asked & {"text", "encoder"} else ""
    return Entry(
        name=name,
        fitted=TRAINED if "Trained" in bases else CLOSED_FORM,
        setting="online" if "Online" in bases else setting,
        reads=" and ".join(filter(None, [pictures, text])),
        paper=ast.literal_eval(told["paper"]),
        says=(ast.get_docstring(found) or "").partition("\n")[0],
    )
