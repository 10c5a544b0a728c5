"""A folder is a registry: a thing is found by the name of its file, and nothing is registered.

`tip-adapter` is `tip_adapter.py`; a name that Python keeps for itself, or that another package has,
ends in an underscore there: `import` is `import_.py`.
"""

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from cacheclip.errors import UsageError, instead


@dataclass(frozen=True)
class Registry:
    """The files of a package that each hold one thing of a kind.

    Attributes:
        package: its dotted name.
        kind: what the things are, for the error of a name that is none of them.
        besides: files of the package that hold none.
        listed: the names, where they are told apart from the package's other files by a list.
        see: the command that lists the names.
    """

    package: str
    kind: str
    besides: frozenset[str] = frozenset()
    listed: Iterable[str] = ()
    see: str = ""

    def names(self) -> list[str]:
        """All names, as the command line spells them; loads none of the files."""
        if self.listed:
            return list(self.listed)
        spec = find_spec(self.package)
        folder = spec.submodule_search_locations if spec else None
        stems = {module.name for module in pkgutil.iter_modules(folder)} - self.besides
        return sorted(stem.rstrip("_").replace("_", "-") for stem in stems)

    def path(self, name: str, where: str) -> str:
        """The dotted name of the file that goes by this name.

        Args:
            name: one of `names`.
            where: where it was given.

        Raises:
            UsageError: there is no such name; the fix has those that there are.
        """
        names = self.names()
        if name not in names:
            fix = instead(name, names, see=self.see)
            raise UsageError(f"no {self.kind} {name!r}", where=where, fix=fix)
        path = f"{self.package}.{name.replace('-', '_')}"
        return path if find_spec(path) else f"{path}_"

    def file(self, name: str, where: str) -> ModuleType:
        """That file, loaded; it raises what `path` does."""
        return import_module(self.path(name, where))
