"""Average precision as COCO defines it, by its own reference implementation."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import MachineError
from cacheclip.store.regions import Annotations

MOST = 100  # detections of a picture that count


@dataclass(frozen=True)
class Found:
    """Detections in n pictures.

    Attributes:
        image: [d] int64, numbers of the pictures.
        boxes: [d, 4], left, top, width, height in pixels.
        labels: [d] int64.
        scores: [d].
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def cat(cls, parts: Sequence["Found"]) -> "Found":
        """Detections of several pictures, one after the other."""
        columns = zip(*((x.image, x.boxes, x.labels, x.scores) for x in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class Precision:
    """Average precision of each class, [C] fractions; nan of a class that is in no picture.

    Attributes:
        ap50: at an overlap of one half.
        ap: the mean over the overlaps 0.5, 0.55, ..., 0.95.
    """

    ap50: NDArray[np.float64]
    ap: NDArray[np.float64]


def require() -> tuple[Any, Any]:
    """The classes COCO and COCOeval.

    Raises:
        MachineError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MachineError(
            "average precision needs pycocotools",
            where="cacheclip detect",
            fix="pip install 'cacheclip[regions]'",
        ) from None
    return COCO, COCOeval


def average_precision(
    truth: Annotations, found: Found, n_pictures: int, n_classes: int
) -> Precision:
    """How well what was found is what is there, class by class.

    Raises:
        MachineError: pycocotools is not installed.
    """
    COCO, COCOeval = require()
    there = np.isin(np.arange(n_classes), truth.labels)
    if not len(found):
        nothing = np.where(there, 0.0, np.nan)
        return Precision(nothing, nothing)
    with contextlib.redirect_stdout(io.StringIO()):  # it talks as it works
        known = COCO()
        known.dataset = _as_coco(truth, n_pictures, n_classes)
        known.createIndex()
        run = COCOeval(known, known.loadRes(_as_rows(found)), "bbox")
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.params.maxDets = [MOST]
        run.evaluate()
        run.accumulate()
    curves = run.eval["precision"][..., 0, 0].copy()  # [overlaps, recalls, C]
    curves[curves < 0] = np.nan
    each = curves.mean(1)  # [overlaps, C]
    return Precision(each[0], each.mean(0))


def _as_coco(truth: Annotations, n_pictures: int, n_classes: int) -> dict[str, Any]:
    """What is there as COCO's JSON has it; numbers count from 1, for it takes 0 for none."""
    rows = zip(truth.image, truth.boxes, truth.labels, truth.crowd, strict=True)
    annotations = [
        {
            "id": k,
            "image_id": int(picture) + 1,
            "category_id": int(label) + 1,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": int(many),
        }
        for k, (picture, box, label, many) in enumerate(rows, 1)
    ]
    return {
        "images": [{"id": k + 1} for k in range(n_pictures)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(n_classes)],
        "annotations": annotations,
    }


def _as_rows(found: Found) -> NDArray[np.float64]:
    """Detections [d, 7] as pycocotools reads arrays: picture, box, score, class."""
    columns = found.image + 1, found.boxes, found.scores, found.labels + 1
    return np.column_stack(columns).astype(np.float64)
