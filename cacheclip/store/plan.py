"""plan.json: how a store is cut into shards and batches, fixed when it is begun."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cacheclip.files.disk import read_json, seal_agrees, sealed, unsealed
from cacheclip.store import hdf5
from cacheclip.store.key import Key, key_digest
from cacheclip.store.schema import FORMAT, IDS_FILE, PLAN_FILE, ShardSpec, plan_shards


@dataclass(frozen=True)
class StorePlan:
    """What holds for a store from its beginning, whatever is asked for later.

    Attributes:
        rows_per_shard: rows a file.
        encode_batch: pictures that go through the encoder at once.
    """

    rows_per_shard: int
    encode_batch: int

    def shards(self, rows: int) -> tuple[ShardSpec, ...]:
        """All shards of a store of so many rows."""
        return plan_shards(rows, self.rows_per_shard)

    def content(self, key: Key) -> dict[str, Any]:
        """What plan.json says of the store of a key."""
        rows = key["data"]["samples"]
        return sealed(
            {
                "format": FORMAT,
                "key_digest": key_digest(key),
                "rows": rows,
                "rows_per_shard": self.rows_per_shard,
                "encode_batch": self.encode_batch,
                "shards": [asdict(spec) for spec in self.shards(rows)],
                "samples_sha256": key["data"]["samples_sha256"],
                "ids": IDS_FILE,
            }
        )

    def fits(self, content: Mapping[str, Any], key: Key) -> bool:
        """Whether a plan.json of these numbers says the rest too as we would."""
        shards = content.get("shards")
        count = -(-key["data"]["samples"] // self.rows_per_shard)
        if not isinstance(shards, list) or len(shards) != count:
            return False  # before a list of as many is made
        return unsealed(content) == unsealed(self.content(key))


def read_plan(folder: Path, key: Key, command: str) -> StorePlan:
    """What the plan.json of a store says.

    Args:
        folder: the store's.
        key: the store's.
        command: the command line that completes the store.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it may not be read.
        DamagedError: it is not the plan of this store.
    """
    file = folder / PLAN_FILE
    content = read_json(file, command=command)
    plan = _plan(content)
    if plan is None or not plan.fits(content, key):
        raise hdf5.damaged(file, "not the plan of this store", command)
    return plan


def _plan(content: Any) -> StorePlan | None:
    if not isinstance(content, dict) or seal_agrees(content) is False:
        return None
    rows_per_shard, batch = content.get("rows_per_shard"), content.get("encode_batch")
    if type(rows_per_shard) is not int or type(batch) is not int or min(rows_per_shard, batch) < 1:
        return None
    return StorePlan(rows_per_shard, batch)
