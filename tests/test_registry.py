"""Things are found by the names of their files."""

from keyword import iskeyword

import pytest

from cacheclip.cli.main import COMMANDS
from cacheclip.encoders.base import ENCODERS
from cacheclip.errors import UsageError
from cacheclip.methods import METHODS
from cacheclip.registry import Registry
from cacheclip.select.base import POLICIES


def test_a_name_is_that_of_its_file() -> None:
    assert METHODS.path("tip-adapter-f", where="here") == "cacheclip.methods.tip_adapter_f"
    assert {"fixed", "full-val", "fewshot-val"} <= set(POLICIES.names())
    assert not {"base", "settings", "catalogue"} & set(METHODS.names())


@pytest.mark.parametrize(("registry", "name"), [(COMMANDS, "import"), (ENCODERS, "open-clip")])
def test_a_name_that_is_taken_has_an_underscore_behind_it(registry: Registry, name: str) -> None:
    assert iskeyword(name) or name == "open-clip"
    assert registry.path(name, where="here").endswith(f".{name.replace('-', '_')}_")


@pytest.mark.parametrize("name", ["tip-adaptr", "base", "tip_adapter", "", "../tip-adapter"])
def test_another_name_is_refused_and_the_menu_shown(name: str) -> None:
    with pytest.raises(UsageError, match="no method") as caught:
        METHODS.file(name, where="--method")
    assert caught.value.where == "--method"
    assert "cacheclip methods" in caught.value.fix or "tip-adapter" in caught.value.fix


def test_every_listed_file_is_there() -> None:
    for registry in (COMMANDS, ENCODERS):
        for name in registry.names():
            assert registry.file(name, where="here")
