"""Build hook: the wheel holds cli/ and kernels/ as parts of cacheclip, with or without links."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LINKED = ("cli", "kernels")


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the two linked folders into wheels; refuses an editable install without the links."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders to `build_data`; raise when an editable build could not see them."""
        root = Path(self.root)
        if version == "editable":
            lost = [n for n in LINKED if not (root / "cacheclip" / n / "__init__.py").exists()]
            if lost:
                names = " ".join(f"cacheclip/{n}" for n in lost)
                raise RuntimeError(
                    f"{names}: not a link to the folder beside it, so an editable install would "
                    f"lack it. Fix: git config core.symlinks true && git checkout -- {names}"
                )
            return
        for name in LINKED:
            build_data["force_include"][str(root / name)] = f"cacheclip/{name}"
