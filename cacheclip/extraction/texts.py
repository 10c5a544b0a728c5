"""The text features of one extraction."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cacheclip.encoders.base import Encoder
from cacheclip.extraction.plan import Plan, Progress
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, text_key
from cacheclip.store.text import TextStore, write_text_store

TEXTS_AT_ONCE = 256


def keep_texts(
    plan: Plan, home: Home, encoder: Encoder, info: Mapping[str, Any], progress: Progress
) -> TextStore:
    """The text store of a plan, written if it is not there.

    Args:
        plan: what is asked for.
        home: where it goes.
        encoder: reads the prompts.
        info: what people may want to know of a store.
        progress: called with "texts", the count done, and the count in all.

    Raises:
        StoreError: the disk refuses, or another process writes there.
    """
    prompts = plan.prompts
    key = text_key(
        encoder=encoder.identity,
        compute=encoder.compute,
        prompts=prompts.prompts,
        classnames=prompts.classnames,
        template=prompts.template,
    )
    path = home.text_path(plan.dataset.id, key_digest(key))
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
