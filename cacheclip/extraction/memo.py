"""A repeated extraction is answered from a note in the home, without loading torch.

The note holds under a digest of all that could change the answer and can be read cheaply: the
request, the samples and their stamps or sizes, the prompts, the versions of what computes. Beside
it stand size and time of the weights file, and the stores; these are looked at before the note is
believed.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.extraction.plan import Plan
from cacheclip.files.disk import digest
from cacheclip.store.home import Home
from cacheclip.store.key import samples_sha256, set_digest_of
from cacheclip.store.parts import PartStore
from cacheclip.store.reader import Store
from cacheclip.store.text import TextStore

PACKAGES = ("cacheclip", "open_clip_torch", "torch", "torchvision", "timm", "pillow", "numpy")


@dataclass(frozen=True)
class Note:
    """What an extraction found or made.

    Attributes:
        model: the encoder's name.
        pretrained: its weights' name.
        set_digest: digest of the feature set.
        weights: path, size and mtime of the weights file.
        stores: the image stores, relative to the home.
        parts: the stores of the encoder's parts, relative to the home.
        text: the text store, relative to the home.
        text_digest: digest of its key.
        failed: pictures that could not be read or encoded.
        truncated: prompts that were cut to the context length.
        sentences: the text store of sentences, relative to the home; None without any.
        sentences_digest: digest of its key.
    """

    model: str
    pretrained: str
    set_digest: str
    weights: dict[str, Any]
    stores: list[str]
    parts: list[str]
    text: str
    text_digest: str
    failed: int
    truncated: int
    sentences: str | None = None
    sentences_digest: str | None = None

    @property
    def places(self) -> list[str]:
        """All stores, relative to the home."""
        sentences = [] if self.sentences is None else [self.sentences]
        return [*self.stores, *self.parts, self.text, *sentences]


@cache
def versions() -> Mapping[str, str]:
    """The versions of ourselves and of what computes the features."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def stamp(path: Path) -> dict[str, Any]:
    """What tells that a weights file was replaced."""
    status = path.stat()
    return {"path": str(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def memo_digest(plan: Plan) -> str:
    """Digest of all that decides the answer and is known before an encoder is loaded."""
    spec = plan.encoder
    told = spec.preprocess_from
    return digest(
        {
            "encoder": asdict(spec),
            "preprocess_from": stamp(Path(told))
            if isinstance(told, str) and Path(told).is_file()
            else None,
            "dataset": plan.dataset.id,
            "splits": {
                name: [samples_sha256(split.ids), samples_sha256(split.stamps or ())]
                for name, split in plan.dataset.splits.items()
            },
            "root": str(plan.dataset.root),  # the stores name it in their command line
            "sizes": plan.sizes,
            "reading": plan.reading.preprocess(),
            "prompts": plan.prompts.digest,
            "template": plan.prompts.template,
            "classnames": list(plan.prompts.classnames),
            "layers": sorted(plan.request.layers),
            "views": plan.request.views,
            # Left out without any, so that older notes still hold.
            **(
                {"sentences": [plan.sentences.template, plan.sentences.digest]}
                if plan.sentences
                else {}
            ),
            **({"pool": plan.pool} if plan.pool else {}),
            "versions": versions(),
        }
    )


def recall(home: Home, key: str, plan: Plan) -> Note | None:
    """Give the note if all that it names is still there, unchanged and as it says; else None."""
    content = home.memo(key)
    if content is None:
        return None
    try:
        note = Note(**content)
        if stamp(Path(note.weights["path"])) != note.weights:
            return None
        stores = [Store.open(home.root / place) for place in note.stores]
        text = TextStore.open(home.root / note.text)
        sentences = None if note.sentences is None else TextStore.open(home.root / note.sentences)
        parts = [PartStore.open(home.root / place) for place in note.parts]
        if not _agrees(note, stores, text, sentences, parts):
            return None
    except (OSError, TypeError, KeyError, ValueError, StoreError):
        return None
    unwelcome = note.failed > plan.allowed or (plan.request.retry_failed and note.failed > 0)
    return None if unwelcome else note


def truncated(*texts: TextStore | None) -> int:
    """Prompts of these stores that were cut to the context length."""
    return sum(text.header.info.get("truncated", 0) for text in texts if text is not None)


def _agrees(
    note: Note,
    stores: Sequence[Store],
    text: TextStore,
    sentences: TextStore | None,
    parts: Sequence[PartStore],
) -> bool:
    """Whether a note says of its stores what they say themselves.

    Raises:
        StoreError: the ids of a store are missing or damaged.
    """
    for store in stores:
        store.check_ids()
    texts = [text, *([sentences] if sentences is not None else [])]
    headers = [
        *(own.header for own in texts),
        *(store.header for store in stores),
        *(part.header for part in parts),
    ]
    whole = all(header.whole for header in headers)
    failed = sum(store.failed for store in stores if store.is_plain)
    encoder = text.key["encoder"]
    told = {
        "model": encoder["name"],
        "pretrained": encoder["pretrained"],
        "text_digest": text.digest,
        "failed": failed,
        "truncated": truncated(*texts),
        "sentences_digest": None if sentences is None else sentences.digest,
    }
    sets = {set_digest_of(store.key) for store in stores}
    return whole and sets == {note.set_digest} and told.items() <= asdict(note).items()
