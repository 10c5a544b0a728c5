"""What a store is made of: layers, shards, failures, and the names on disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from cacheclip.files.disk import seal_agrees, unsealed

T = TypeVar("T")

FORMAT = 1

SPLITS = ("train", "val", "test")
PATCHES = "patches"
LAYERS = ("image", "pre-projection", PATCHES)
TEXT = "text"
SENTENCES = "cupl:"  # before the template of a text store that holds sentences of each class
SHIPPED_SENTENCES = frozenset({"clipart"})  # data sets whose sentences travel with the package
ENCODER, TOWER, TOKENS = "encoder", "text-tower", "tokens"
EXTRA = (TOWER, PATCHES)  # what an extraction keeps on request alone
PARTS = (ENCODER, TOWER, TOKENS)  # of an encoder: what `store.parts` keeps
STORE_DTYPES = ("float16", "float32")
REGIONS, REGIONS_SPLIT = "regions", "test"  # family of data sets of boxes, and their one split
IMPORTED = "npz"  # library and data set family of features that no encoder of ours made

MISSING = "missing"
DECODE = "decode"
TRUNCATED = "truncated"
TOOLARGE = "toolarge"
NONFINITE = "nonfinite"
OOM = "oom"
OTHER = "other"
FAILURE_CODES = (MISSING, DECODE, TRUNCATED, TOOLARGE, NONFINITE, OOM, OTHER)
FAILURE_TEXT_BYTES = 200

ROWS_PER_SHARD = 8192  # at most, where nothing else is asked for
SHARDS = 16  # that a small store is cut into, so that an interrupt loses little
LEAST_ROWS = 256  # of a shard, and what its rows are a multiple of: the usual batches fit

# A vector's norm is stored as the encoder gave it, and read again from the rounded vector. fp16
# moves it by 6e-5 (measured); rows that move by more than half of this are refused when written.
NORM_TOLERANCE = 1e-3

KEY_FILE = "key.json"
PLAN_FILE = "plan.json"
IDS_FILE = "ids.h5"
TEXT_FILE = "text.h5"
PARTS_FILE = "parts.h5"
DONE_FILE = "done.json"
DONE_FOLDER = "done"
STAGING_FOLDER = "tmp"
LOCK_FILE = "lock"


@dataclass(frozen=True)
class ShardSpec:
    """One shard of the plan: rows `first` to `first + rows` of the store."""

    id: int
    first: int
    rows: int

    @property
    def file(self) -> str:
        """Name of the shard's file in the store's folder."""
        return shard_file(self.id)

    @property
    def record(self) -> str:
        """Name of its done record in the store's folder."""
        return f"{DONE_FOLDER}/{self.id:05d}.json"


@dataclass(frozen=True)
class ShardRecord:
    """What is on disk of a finished shard; written last, so that its presence means done.

    Attributes:
        id: the shard's number in the plan.
        first: its first row in the store.
        rows: how many it has.
        dim: length of a vector.
        failed: rows without a vector.
        bytes: size of the file.
        sha256: of the file.
        content_sha256: of the arrays in it.
    """

    id: int
    first: int
    rows: int
    dim: int
    failed: int
    bytes: int
    sha256: str
    content_sha256: str

    @property
    def file(self) -> str:
        """Name of the shard's file in the store's folder."""
        return shard_file(self.id)


def from_json(record: type[T], content: Any) -> T:
    """A record of plain fields from what JSON gave, sealed or not, every field of its type.

    Raises:
        TypeError: it is another record, or none, or not as it was sealed.
    """
    if not isinstance(content, dict) or seal_agrees(content) is False:
        raise TypeError("it is not as it was written")
    made = record(**unsealed(content))
    for field in fields(made):  # type: ignore[arg-type]
        if type(getattr(made, field.name)) is not field.type:
            raise TypeError(f"{field.name} is not of type {field.type}")
    return made


@dataclass(frozen=True)
class Failure:
    """A row that has no vector: its place in the store, a code of `FAILURE_CODES`, and why."""

    row: int
    code: str
    text: str


def shard_file(number: int) -> str:
    """Name of a shard's file in the store's folder."""
    return f"shard-{number:05d}.h5"


def usual_rows_per_shard(rows: int, vectors: int = 1) -> int:
    """Rows a shard where nobody asks for a number.

    Args:
        rows: of the store.
        vectors: in each of them; a shard must fit into memory.
    """
    sixteenth = -(-rows // (SHARDS * LEAST_ROWS)) * LEAST_ROWS
    most = ROWS_PER_SHARD // vectors // LEAST_ROWS * LEAST_ROWS
    return max(LEAST_ROWS, min(most, sixteenth))


def plan_shards(rows: int, rows_per_shard: int) -> tuple[ShardSpec, ...]:
    """Cut `rows` rows into shards; the last one may be shorter."""
    starts = range(0, rows, rows_per_shard)
    return tuple(
        ShardSpec(k, first, min(rows_per_shard, rows - first)) for k, first in enumerate(starts)
    )


def cut(text: str, limit: int = FAILURE_TEXT_BYTES) -> str:
    """The text within `limit` bytes of UTF-8."""
    return text.encode(errors="replace")[:limit].decode(errors="ignore")


def named(failures: Sequence[Failure], ids: Sequence[str]) -> Iterator[str]:
    """One line a failure: `cat/1.jpg: decode: broken PNG`."""
    for failure in failures:
        yield f"{ids[failure.row]}: {failure.code}: {failure.text}"
