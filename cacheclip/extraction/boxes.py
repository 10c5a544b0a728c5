"""The boxes that an extraction is asked for, and how they get their features."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacheclip.datasets.boxes import BoxSet, box_set
from cacheclip.errors import UsageError
from cacheclip.extraction.crops import SCALES
from cacheclip.store.schema import PATCHES

if TYPE_CHECKING:
    from cacheclip.extraction.plan import ExtractRequest

CROPS = "crops"
POOLS = (CROPS, PATCHES)


def boxes_of(request: "ExtractRequest") -> BoxSet | None:
    """The boxes that are asked for; None where whole pictures are.

    Raises:
        UsageError: options that are for the one and not for the other.
    """
    if request.regions is None:
        if request.pool is None:
            return None
        what, fix = "there are no boxes to pool", "add --regions FILE.json, or leave --pool out"
        raise UsageError(what, where=f"--pool {request.pool}", fix=fix)
    pictures = {
        "--views": request.views is not None,
        "--query-views": request.query_views is not None,
        f"--layers {PATCHES}": PATCHES in request.layers,
        "--classes-from": request.classes_from is not None,
    }
    for option in (name for name, asked in pictures.items() if asked):
        raise UsageError(
            f"{option} is for whole pictures",
            where="--regions",
            fix=f"leave {option} out; --pool patches makes features of boxes from those of places",
        )
    return box_set(
        Path(request.dataset),
        request.regions,
        alias=request.alias,
        hash_files=request.hash_files,
    )


def pooling(pool: str | None) -> dict[str, Any]:
    """What the key of a store says of how boxes get their features; nothing of whole pictures."""
    if pool is None:
        return {}
    scales = {"scales": list(SCALES)} if pool == CROPS else {}
    return {"regions": {"pool": pool, "resize": "stretch", **scales}}
