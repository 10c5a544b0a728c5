"""How an extraction reads its pictures: as was asked for, and what a look at a few tells."""

from collections.abc import Iterator
from pathlib import Path

from cacheclip.datasets.base import DataSet
from cacheclip.datasets.images import AS_STORED, Reading, greatest_level
from cacheclip.datasets.levels import white_level
from cacheclip.datasets.suffixes import suffix
from cacheclip.errors import UsageError

EXIF = "exif"
KEPT = "as-stored"
ORIENTATIONS = (EXIF, KEPT)
WIDE = frozenset({".png", ".tif", ".tiff"})  # what may have 16 bits a channel
LOOKED_AT = 64  # files, for a data set mostly has one kind of picture
WIDE_ENOUGH = 16  # pictures of 16 bits


def reading_of(dataset: DataSet, orientation: str | None, white: int | None) -> Reading:
    """How the pictures of a data set are read.

    Args:
        dataset: a set of the field stays as it was published; the user's own is turned upright.
        orientation: one of `ORIENTATIONS`, or None.
        white: the level that is white, or None.

    Raises:
        UsageError: a set of the field is to be read in another way.
    """
    if not dataset.builtin:
        return Reading(upright=orientation != KEPT, white_level=white)
    if orientation == EXIF or white is not None:
        option = "--orientation" if white is None else "--white-level"
        raise UsageError(
            f"{dataset.id} is read as it was published, so that its numbers can be compared",
            where=option,
            fix=f"leave {option} out; it is for folders of your own",
        )
    return AS_STORED


def low_range(dataset: DataSet) -> str | None:
    """A line where 16-bit pictures use a small part of their range; looks at a few of them."""
    if dataset.builtin:
        return None
    seen: list[int] = []
    for path in _candidates(dataset):
        greatest = greatest_level(path)
        if greatest is not None:
            seen.append(greatest)
        if len(seen) == WIDE_ENOUGH:
            break
    white = white_level(max(seen)) if seen else None
    if white is None:
        return None
    return (
        f"{dataset.id}: 16-bit pictures whose greatest level is {max(seen):,} of 65,535 "
        f"({len(seen)} looked at) come out nearly black; to make {white:,} white add "
        f"--white-level {white}"
    )


def _candidates(dataset: DataSet) -> Iterator[Path]:
    """Files that may have 16 bits a channel, spread over all splits and classes."""
    sources = (dataset.read(sample) for split in dataset.splits.values() for sample in split.ids)
    paths = [path for path in sources if isinstance(path, Path) and suffix(path) in WIDE]
    yield from paths[:: max(1, len(paths) // LOOKED_AT)]
