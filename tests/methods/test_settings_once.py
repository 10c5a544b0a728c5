"""A setting is declared once, in the table of its method; nothing else knows it by name."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import cacheclip
from cacheclip.methods import base

HOUSE = Path(cacheclip.__file__).parent
# The engine acts on these, and a study reads views.
SHARED = {*base.steps(), *base.CLASS_WEIGHT, *base.PRIOR, *base.VIEWS, "precision"}
MAY_NAME = {
    "table",
    "recipes",
    "off",
    "trainable",
    "transferred",
}  # its settings, some of them, or params


def parts_of_class(name: str) -> Iterator[tuple[str, ast.expr]]:
    """The assignments in the body of a method's class."""
    file = HOUSE / "methods" / f"{name.replace('-', '_')}.py"
    (own,) = (n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef))
    for statement in own.body:
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            yield ast.unparse(target), statement.value


def words_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("name", [name for name in base.names() if base.get(name).table])
def test_a_method_declares_a_setting_once(name: str) -> None:
    parts = dict(parts_of_class(name))
    declared = Counter(
        said
        for node in ast.walk(parts["table"])
        for said in (
            [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if isinstance(node, ast.Dict)
            else [keyword.arg for keyword in node.keywords]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "steps"
            else []
        )
    )
    table = set(base.get(name).table)
    assert set(declared) <= table
    assert set(declared.values()) == {1}
    for part in parts.keys() - MAY_NAME:
        assert not table & set(words_of(parts[part])), part


@pytest.mark.parametrize("room", ["engine", "select", "study", "api", "cli"])
def test_no_other_room_knows_a_method_s_own_settings(room: str) -> None:
    own = {setting for name in base.names() for setting in base.get(name).table} - SHARED
    for file in (HOUSE / room).glob("*.py"):
        assert not own & set(words_of(ast.parse(file.read_text()))), file.name
