"""The text store: raw features of every prompt of every class.

A class with fewer prompts than another is filled up with vectors of zeros and empty texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.files.disk import digest
from cacheclip.store import hdf5, shard
from cacheclip.store.header import Header
from cacheclip.store.key import Key
from cacheclip.store.one_file import OneFileStore, write_one
from cacheclip.store.schema import MISSING, NORM_TOLERANCE, TEXT_FILE, Failure, from_json


@dataclass(frozen=True)
class TextRecord:
    """What is on disk of a finished text store; written last."""

    key_digest: str
    classes: int
    prompts: int
    dim: int
    bytes: int
    sha256: str
    content_sha256: str


class TextStore(OneFileStore[TextRecord]):
    """A complete text store. `TextStore.open` makes one."""

    file = TEXT_FILE
    holds = "text features"

    @staticmethod
    def parsed(content: Any, header: Header) -> TextRecord:
        """The record of a complete text store, which must agree with its key.

        Raises:
            KeyError, TypeError, ValueError: it does not.
        """
        record = from_json(TextRecord, content)
        key = header.key
        shape = [key["text"]["classes"], key["text"]["prompts"]]
        least = (
            record.classes * record.prompts * record.dim * np.dtype(key["store"]["dtype"]).itemsize
        )
        if [record.classes, record.prompts] != shape or not 0 < least <= record.bytes:
            raise ValueError("not the record of this store")
        return record

    @property
    def template(self) -> str:
        """Name of the template family."""
        return str(self.key["text"]["template"])

    @property
    def classnames(self) -> list[str]:
        """C names, in label order."""
        return self._read()[1]

    @property
    def prompts(self) -> list[list[str]]:
        """[C][T] texts; T is each class's own."""
        return self._read()[2]

    def load(self) -> NDArray[np.float32]:
        """Read the raw features, [C, T, D] float32, every byte checked; zeros where no prompt is.

        Raises:
            StoreError: the file is missing or damaged.
        """
        return self._read()[0]

    def _read(self) -> tuple[NDArray[np.float32], list[str], list[list[str]]]:
        path = self.path / TEXT_FILE
        classes, width, dim = self.record.classes, self.record.prompts, self.record.dim
        with hdf5.checked(path, self.header.extract_command) as file:
            if hdf5.attribute(file, "content_sha256") != self.record.content_sha256:
                raise hdf5.ContentError("it is not the file of the record")
            dtype = self.key["store"]["dtype"]
            features = hdf5.read(file, "features", dtype, (classes, width, dim))
            raw = features.astype(np.float32)
            norm = hdf5.read(file, "norm", "float32", (classes, width))
            length = shard.lengths(raw.reshape(-1, dim)).reshape(classes, width)
            if not (np.abs(length - norm) <= NORM_TOLERANCE * norm).all():
                raise hdf5.ContentError("a vector does not have the norm it was stored with")
            classnames = shard.read_texts(file, "class", classes)
            texts = shard.read_texts(file, "prompt", classes * width)
            if digest(classnames) != self.key["text"]["classnames_sha256"]:
                raise hdf5.ContentError("its class names are not those of the key")
            if (norm.reshape(-1)[[bool(text) for text in texts]] <= 0).any():
                raise hdf5.ContentError("a prompt has no vector")
        rows = [texts[c * width : (c + 1) * width] for c in range(classes)]
        return raw, classnames, [[text for text in row if text] for row in rows]


def write_text_store(
    path: Path,
    key: Key,
    *,
    per_prompt: NDArray[np.float32],
    classnames: Sequence[str],
    prompts: Sequence[Sequence[str]],
    info: Mapping[str, Any],
    home: str = "",
) -> TextStore:
    """Write the text store of a key unless it is there, and open it.

    Args:
        path: its folder, from `Home.text_path`.
        key: from `text_key`.
        per_prompt: [C, T, D] float32, as the encoder gave them; what stands where a class has no
            prompt does not matter.
        classnames: C names.
        prompts: [C][T] texts; T may differ between classes.
        info: what people may want to know: `dataset`, versions, device.
        home: `Home.option`.

    Raises:
        StoreError: a vector does not fit the stored type, or another process writes here.
    """
    if [digest(list(classnames)), digest([list(row) for row in prompts])] != [
        key["text"]["classnames_sha256"],
        key["text"]["prompts_sha256"],
    ]:
        raise ValueError("these are not the classes and prompts of the key")
    classes, width, dim = per_prompt.shape
    if (classes, width) != (len(classnames), max(map(len, prompts))):
        raise ValueError(f"features of {classes} x {width} prompts")
    texts = [text for row in prompts for text in [*row, *[""] * (width - len(row))]]
    absent = {c * width + t for c, row in enumerate(prompts) for t in range(len(row), width)}
    dtype = key["store"]["dtype"]
    missing = [Failure(row, MISSING, "") for row in absent]
    rows = shard.rounded(per_prompt.reshape(-1, dim), missing, first=0, dtype=dtype)
    failed = {f.row: f.text for f in rows.failures if f.row not in absent}
    if failed:
        row, why = next(iter(failed.items()))
        raise StoreError(
            f"the encoder gave {why} for {len(failed)} of {sum(map(len, prompts))} prompts",
            where=f"{path}, prompt {texts[row]!r}",
            fix="compute in another precision: --precision fp32",
        )
    arrays = {
        "features": rows.features.reshape(per_prompt.shape),
        "norm": rows.norm.reshape(classes, width),
        **hdf5.packed("class", classnames),
        **hdf5.packed("prompt", texts),
    }
    write_one(
        path,
        TEXT_FILE,
        key,
        arrays,
        lambda file: TextRecord(classes=classes, prompts=width, dim=dim, **file),
        info=info,
        home=home,
    )
    return TextStore.open(path, home)
