"""What is kept of the encoder itself, beside the features that it gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from cacheclip.encoders.base import Encoder
from cacheclip.errors import StoreError
from cacheclip.extract.plan import Plan
from cacheclip.files.refusals import RefusedError
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, parts_key
from cacheclip.store.parts import PartStore, write_parts
from cacheclip.store.schema import ENCODER


def keep_parts(
    plan: Plan, home: Home, encoder: Encoder, info: Mapping[str, Any]
) -> list[PartStore]:
    """The stores of the encoder's parts that a plan wants, written as far as they are not there.

    Args:
        plan: what is asked for.
        home: where they go.
        encoder: whose parts.
        info: what people may want to know of a store.

    Raises:
        StoreError: the disk refuses, or another process writes there.
    """

    def keep(
        kind: str, arrays: Mapping[str, NDArray[Any]], classnames: Sequence[str] | None = None
    ) -> PartStore:
        key = parts_key(
            kind,
            encoder=encoder.identity,
            compute=encoder.compute,
            names=list(arrays),
            classnames=classnames,
        )
        path = home.part_path(plan.dataset.id, kind, key_digest(key))
        try:
            return PartStore.open(path, home.option)
        except RefusedError:
            raise  # it may be well
        except StoreError:  # not there, or not whole
            return write_parts(path, key, arrays, info, home.option)

    return [keep(ENCODER, encoder.parts)]
