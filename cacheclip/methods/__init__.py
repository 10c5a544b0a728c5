"""The methods, one file and one class each; `base` holds the contract and the look-up."""

import pkgutil

# The files of this folder that are no method.
MACHINERY = frozenset({"base", "catalogue", "settings"})


def names() -> list[str]:
    """All methods, as the command line spells them; loads none of them."""
    stems = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(stem.replace("_", "-") for stem in stems - MACHINERY)
