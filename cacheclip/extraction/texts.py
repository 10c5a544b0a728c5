"""The text features of an extraction: those of its templates, and of sentences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cacheclip.encoders.base import Encoder
from cacheclip.extraction.plan import Progress
from cacheclip.prompts.ensemble import PromptSet
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, text_key
from cacheclip.store.text import TextStore, write_text_store

TEXTS_AT_ONCE = 256


def keep_texts(
    prompts: PromptSet,
    dataset: str,
    home: Home,
    encoder: Encoder,
    info: Mapping[str, Any],
    progress: Progress,
) -> TextStore:
    """The text store of some prompts, written if it is not there.

    Args:
        prompts: what is to be encoded.
        dataset: id of the data set whose classes they are of.
        home: where it goes.
        encoder: reads the prompts.
        info: what people may want to know of a store.
        progress: called with "texts", the count done, and the count in all.

    Raises:
        StoreError: the disk refuses, or another process writes there.
    """
    key = text_key(
        encoder=encoder.identity,
        compute=encoder.compute,
        prompts=prompts.prompts,
        classnames=prompts.classnames,
        template=prompts.template,
    )
    path = home.text_path(dataset, key_digest(key))
    if (store := TextStore.whole(path, home.option)) is not None:
        return store
    width = max(map(len, prompts.prompts))
    texts = [text for row in prompts.prompts for text in row]
    parts, truncated = [], 0
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        features, cut = encoder.encode_texts(texts[first : first + TEXTS_AT_ONCE])
        parts.append(features)
        truncated += cut
        progress("texts", first + len(features), len(texts))
    features = np.concatenate(parts)
    per_prompt = np.zeros((len(prompts.classnames), width, features.shape[1]), np.float32)
    there = [k < len(row) for row in prompts.prompts for k in range(width)]
    per_prompt.reshape(-1, features.shape[1])[there] = features  # [C, T, D]
    return write_text_store(
        path,
        key,
        per_prompt=per_prompt,
        classnames=prompts.classnames,
        prompts=prompts.prompts,
        info={**info, "truncated": truncated},
        home=home.option,
    )
