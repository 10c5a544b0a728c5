"""What is kept of the encoder itself, beside the features that it gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from cacheclip.encoders.base import Encoder
from cacheclip.errors import UsageError
from cacheclip.extraction.plan import Plan
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, parts_key
from cacheclip.store.parts import PartStore, write_parts
from cacheclip.store.schema import ENCODER, TOKENS, TOWER


def keep_parts(
    plan: Plan, home: Home, encoder: Encoder, info: Mapping[str, Any]
) -> tuple[list[PartStore], list[str]]:
    """The stores of the encoder's parts that a plan wants, written as far as they are not there.

    Beside them the kinds of those that had to be written.

    Args:
        plan: what is asked for.
        home: where they go.
        encoder: whose parts.
        info: what people may want to know of a store.

    Raises:
        UsageError: it has no text tower of the kind that can be kept.
        StoreError: the disk refuses, or another process writes there.
    """

    def keep(kind: str, arrays: Mapping[str, NDArray[Any]], **of: Sequence[str]) -> PartStore:
        key = parts_key(
            kind,
            encoder=encoder.identity,
            compute=encoder.compute,
            names=list(arrays),
            **of,
        )
        path = home.part_path(plan.dataset.id, kind, key_digest(key))
        store = PartStore.whole(path, home.option)
        if store is None:
            new.append(kind)
            store = write_parts(path, key, arrays, info, home.option)
        return store

    new: list[str] = []
    kept = [keep(ENCODER, encoder.parts)]
    if TOWER in plan.request.layers:
        tower = encoder.text_tower()
        if tower is None:
            raise UsageError(
                "the text tower of this encoder is not a transformer of CLIP's form",
                where=f"--model {encoder.identity['name']}",
                fix=f"leave {TOWER} out of --layers, or use another --model",
            )
        kept.append(keep(TOWER, {f"tower.{name}": array for name, array in tower.items()}))
        prompts = plan.prompts
        spoken = [prompts.speak(name) for name in prompts.classnames]
        tokens = {"tokens": encoder.class_tokens(spoken)}
        kept.append(keep(TOKENS, tokens, classnames=prompts.classnames, spoken=spoken))
    return kept, new
