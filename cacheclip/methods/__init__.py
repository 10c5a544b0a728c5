"""The methods, one file and one class each; `base` holds the contract and the look-up."""

from pathlib import Path

# The files of this folder that are no method.
MACHINERY = frozenset({"__init__", "base", "catalogue"})


def names() -> list[str]:
    """All methods, as the command line spells them; loads none of them."""
    stems = {file.stem for file in Path(__path__[0]).glob("*.py")}
    return sorted(stem.replace("_", "-") for stem in stems - MACHINERY)
