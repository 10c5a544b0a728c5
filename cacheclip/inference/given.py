"""The rows of a file of features, as a bundle reads them."""

from collections.abc import Iterator

import numpy as np

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.errors import InputError
from cacheclip.exchange.arrays import NORMS
from cacheclip.exchange.features_file import FeaturesFile
from cacheclip.inference.rows import Part, rows_at_once

KNOWN = ("image", "image-norm")  # what a picture's projected features are


def given_rows(bundle: Bundle, file: FeaturesFile) -> Iterator[Part]:
    """The rows of a file, part by part; those that are not finite, or zero, have an error.

    Args:
        bundle: what will answer.
        file: rows [N, D], raw or of length 1.

    Raises:
        InputError: the bundle reads what no such file has, or rows of another length; or the file
            is damaged.
    """
    _refuse_unfit(bundle, file)
    ids, labels, splits = file.ids(), file.labels(bundle.classnames) or [], file.splits() or []
    first = 0
    for x in file.parts(rows_at_once(bundle)):
        last = first + len(x)
        norm = np.sqrt(np.einsum("nd,nd->n", x, x))
        good = (norm >= NORMS[0]) & (norm <= NORMS[1])  # not so where it is not a number
        errors = {
            k: "zero: its features have no length" if norm[k] == 0 else "nonfinite: its features"
            for k in np.flatnonzero(~good).tolist()
        }
        if errors:
            x, norm = x[good], norm[good]
        layers = {"image": x / norm[:, None], "image-norm": norm[:, None]}
        yield Part(
            ids=ids[first:last],
            layers={name: layers[name] for name in bundle.layers},
            errors=errors,
            labels=labels[first:last],
            splits=splits[first:last],
        )
        first = last


def _refuse_unfit(bundle: Bundle, file: FeaturesFile) -> None:
    layers = [name for name in bundle.layers if name not in KNOWN]
    read = f"{', '.join(layers)} of a picture" if layers else _parts_read(bundle)
    if read:
        raise InputError(
            f"{bundle.method} reads {read}, which a file of features does not have",
            where=str(file.path),
            fix="extract the data set, then: cacheclip predict BUNDLE --on SET",
        )
    width = bundle.encoder["embed_dim"]
    if file.dim != width:
        encoder = f"{bundle.encoder['name']}@{bundle.encoder['pretrained']}"
        raise InputError(
            f"its rows have {file.dim} numbers, and the bundle reads {width}",
            where=f"{file.path}; the bundle was fitted on features of {encoder}",
            fix=f"give features [N, {width}] of that encoder, projected",
        )


def _parts_read(bundle: Bundle) -> str:
    """The frozen parts of the encoder that its answers take."""
    return ", ".join(f"the encoder's {x}" for x in Classifier(bundle).method.reads.query_encoder)
