"""Draws that came with a data set: support sets that somebody published, kept beside its labels."""

import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cacheclip.errors import StoreError
from cacheclip.files.disk import digest, publish_text, read_json
from cacheclip.store.schema import FORMAT

DRAWS_FILE = "draws.json"


@dataclass(frozen=True)
class GivenDraws:
    """Support sets by seed and shots.

    Attributes:
        ids_sha256: `samples_sha256` of the ids of split train, whose rows these are.
        rows: (seed, shots) -> rows of split train, class by class.
    """

    ids_sha256: str
    rows: Mapping[tuple[int, int], tuple[int, ...]]


def write_draws(folder: Path, draws: GivenDraws) -> None:
    """Publish them in the data set's folder, in the place of those that are there."""
    rows = {f"{seed}_{shots}": list(own) for (seed, shots), own in sorted(draws.rows.items())}
    content = {"train": draws.ids_sha256, "draws": rows}
    whole = {"format": FORMAT, **content, "digest": digest(content)}
    publish_text(folder / DRAWS_FILE, json.dumps(whole) + "\n")


def read_draws(folder: Path, ids_sha256: str, command: str) -> GivenDraws:
    """Those of a data set, none where none came with it.

    Args:
        folder: the data set's.
        ids_sha256: of the ids of its split train.
        command: what makes the file anew, for the message.

    Raises:
        StoreError: the file is damaged, or its rows are those of other samples.
    """
    file = folder / DRAWS_FILE
    if not file.exists():
        return GivenDraws(ids_sha256, {})
    fix = f"rm {shlex.quote(str(file))} && {command}"
    content = read_json(file)
    try:
        whole = {"train": content["train"], "draws": content["draws"]}
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, and this cacheclip reads {FORMAT}")
        if digest(whole) != content["digest"]:
            raise ValueError("another digest than it was written with")
        if content["train"] != ids_sha256:
            raise ValueError("they are of other samples than the labels")
        named = {name.partition("_"): tuple(own) for name, own in content["draws"].items()}
        rows = {(int(seed), int(shots)): own for (seed, _, shots), own in named.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"these are not draws: {error}", where=str(file), fix=fix) from None
    return GivenDraws(ids_sha256, rows)


def common_seeds(cells: Collection[tuple[int, int]]) -> tuple[list[int], int]:
    """The shot counts that have draws of the seeds 1 to N, and the greatest N they have in common.

    Args:
        cells: (seed, shots) of every draw.
    """
    upto: dict[int, int] = {}
    for shots in sorted({k for _, k in cells}):
        seed = 1
        while (seed, shots) in cells:
            seed += 1
        if seed > 1:
            upto[shots] = seed - 1
    return list(upto), min(upto.values(), default=0)
