"""Where rows, draws, predictions and bundles go: the home, or elsewhere if that is read-only."""

import os
import shlex
from pathlib import Path

import platformdirs

from cacheclip.errors import InputError, StoreError
from cacheclip.files.places import try_writing
from cacheclip.files.refusals import CLOSED, refused
from cacheclip.files.regular import expanded
from cacheclip.store.home import Home

WRITTEN = ("results.jsonl", "predictions", "tests", "draws", "bundles", "locks")  # in a home


def results_home(home: Home, chosen: Path | None = None) -> tuple[Home, tuple[str, ...]]:
    """The home that results go to, and a notice where nobody chose it.

    Features are read from `home` alone, so it may be one that many share and few may write to.

    Args:
        home: where the features are.
        chosen: what `--results` names; None takes the home, or the user's data folder where the
            home cannot be written to.

    Raises:
        InputError: the folder chosen cannot be written to.
        StoreError: nothing was chosen, and neither of the two can be written to; or the disk is
            full.
    """
    if chosen is not None:
        root = expanded(chosen).absolute()
        if not writable(root):
            raise InputError(
                "results cannot be written there",
                where=f"--results {root}",
                fix="give another folder with --results, or leave it out",
            )
        return Home(root, f"{home.option} --results {shlex.quote(str(root))}"), ()
    if writable(home.root):
        return home, ()
    own = Home(platformdirs.user_data_path("cacheclip"), home.option)
    if not writable(own.root):
        raise StoreError(
            "neither the home nor your own data folder can be written to",
            where=f"{home.root}, {own.root}",
            fix="choose a folder for results: add --results FOLDER to the command",
        )
    notice = f"the home {home.root} is read-only; results go to {own.root} (--results chooses)"
    return own, (notice,)


def writable(root: Path) -> bool:
    """Whether results may be written to a folder, which need not exist yet; it is tried.

    Raises:
        StoreError: they may, and the disk does not take them, or a log is a link.
    """
    there = next(path for path in (root, *root.parents) if path.exists())
    places = [root / name for name in ("", *WRITTEN)] if there == root else [there]
    if not there.is_dir() or not all(os.access(p, os.W_OK) for p in places if p.exists()):
        return False
    try:
        try_writing(root, WRITTEN)
    except OSError as error:
        if error.errno in CLOSED:
            return False
        raise refused(error, root, "--results") from error
    return True
