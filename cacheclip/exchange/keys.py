"""What arrays go by: the keys and labels that are theirs in a store, or where they lie in memory.

There is no encoder, so the arrays stand for it: its `pretrained` is a digest of the features, the
text and the logit scale.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.exchange.arrays import Arrays
from cacheclip.store import hdf5
from cacheclip.store.key import KEY_DIGITS, Key, samples_sha256, text_key
from cacheclip.store.labels import Labels, SplitLabels
from cacheclip.store.schema import IMPORTED, SENTENCES

MODEL = "imported"
TEMPLATE = "imported"
OF_SENTENCES = SENTENCES + TEMPLATE


def common(arrays: Arrays) -> dict[str, Any]:
    """What all stores of the arrays share of their keys."""
    content = {"features": arrays.features, "logit_scale": np.array(arrays.logit_scale)}
    if arrays.per_prompt is not None:
        content["text_features"] = arrays.per_prompt
    if arrays.sentences is not None:
        content["sentence_features"] = arrays.sentences
    sha256 = hdf5.content_sha256(content)
    return {
        "encoder": {
            "library": IMPORTED,
            "name": MODEL,
            "pretrained": sha256[:KEY_DIGITS],
            "weights_sha256": sha256,
            "quickgelu": None,
            "embed_dim": arrays.features.shape[1],
            "logit_scale": arrays.logit_scale,
            "logit_bias": None,
        },
        "preprocess": {},
        "compute": {"dtype": arrays.features.dtype.name},
        "store_dtype": arrays.features.dtype.name,
    }


def labels_of(dataset: str, arrays: Arrays) -> Labels:
    """The labels as the arrays have them."""
    splits = {
        name: SplitLabels(
            samples_sha256([arrays.ids[row] for row in rows.tolist()]),
            None,
            arrays.labels[rows].tolist(),
        )
        for name, rows in arrays.rows().items()
    }
    return Labels(dataset, arrays.classnames, splits)


def prompts_of(per_prompt: NDArray[Any], classnames: Sequence[str]) -> list[list[str]]:
    """[C][T] texts: nobody knows the prompts, so the names stand for them, one for each."""
    counts = (per_prompt != 0).any(-1).sum(1).tolist()
    return [[name] * count for name, count in zip(classnames, counts, strict=True)]


def key_of_text(
    shared: Mapping[str, Any],
    per_prompt: NDArray[Any],
    classnames: Sequence[str],
    template: str = TEMPLATE,
) -> Key:
    """The key of text features [C, T, D].

    Args:
        shared: `common` of their arrays.
        per_prompt: the features.
        classnames: C names.
        template: what they go by.
    """
    return text_key(
        encoder=shared["encoder"],
        compute=shared["compute"],
        store_dtype=per_prompt.dtype.name,
        prompts=prompts_of(per_prompt, classnames),
        classnames=classnames,
        template=template,
    )
