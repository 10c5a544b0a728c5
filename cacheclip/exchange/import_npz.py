"""`npz/NAME`: arrays of one .npz file as stores, so that stage two reads them like any others.

There is no encoder, so the file stands for it: its `pretrained` is a digest of the features, the
text and the logit scale. Another file of the same samples is another feature set of the data set.
"""

import shlex
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip import __version__
from cacheclip.errors import InputError, StoreError
from cacheclip.exchange.arrays import KNOWN, REQUIRED, Arrays, checked
from cacheclip.store import hdf5
from cacheclip.store.features import begun
from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import (
    KEY_DIGITS,
    extract_command,
    image_key,
    key_digest,
    samples_sha256,
    set_digest,
    text_key,
)
from cacheclip.store.schema import IMPORTED
from cacheclip.store.text import TextStore, write_text_store
from cacheclip.store.writer import ImageStoreWriter

MODEL = "imported"
TEMPLATE = "imported"

Progress = Callable[[str, int, int], None]

_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        dataset: the id, `npz/NAME`.
        model: `imported`.
        pretrained: what the features are known by: a digest of them.
        written: rows written.
        reused: rows that were there already.
        splits: split -> rows.
        classes: C.
        dim: D.
        store_dtype: `float16` or `float32`.
        prompts: prompts a class, 0 without text.
        notices: one line each, for the user.
        stores: the folders of the image stores, and of the text store if there is one.
        set_digest: digest of the feature set.
    """

    dataset: str
    model: str
    pretrained: str
    written: int
    reused: int
    splits: Mapping[str, int]
    classes: int
    dim: int
    store_dtype: str
    prompts: int
    notices: tuple[str, ...]
    stores: tuple[Path, ...]
    set_digest: str

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return asdict(self) | {"stores": [str(path) for path in self.stores]}


def import_npz(
    file: Path,
    home: Home,
    name: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ImportReport:
    """Bring the arrays of a file into stores, as far as they are not there yet.

    All of the file is checked before anything is written. It counts as the last extraction.

    Args:
        file: a .npz file of the arrays in `arrays.KNOWN`; pickled objects are never loaded.
        home: where the stores go.
        name: NAME of the data set `npz/NAME`; None takes the file's.
        progress: called with "rows", the count done, and the count in all.

    Raises:
        InputError: the file is missing, no such file, or faulty, or its samples or labels are
            others than those which the home knows by that name.
        StoreError: a store is locked by another process, or damaged.
    """
    path = file.expanduser().absolute()
    dataset = f"{IMPORTED}/{path.stem if name is None else name}"
    arrays = checked(_read(path), str(path))
    own = _own_labels(dataset, arrays)
    labels, kept = _labels(own, path, home)
    work = _Import(path, home, arrays, labels, own.digest, progress)
    set_name = set_digest(**work.common, dataset=dataset)
    text = work.text()
    stores = [work.split(split, rows) for split, rows in arrays.rows().items()]
    home.write_labels(labels)
    home.record_extraction(
        dataset=dataset,
        model=MODEL,
        pretrained=work.common["encoder"]["pretrained"],
        set_digest=set_name,
        text_digest=None if text is None else text.digest,
        root=path,
    )
    nothing = () if work.written else ("all rows are there already: nothing to write",)
    return ImportReport(
        dataset=dataset,
        model=MODEL,
        pretrained=work.common["encoder"]["pretrained"],
        written=work.written,
        reused=len(arrays.ids) - work.written,
        splits={split: len(rows) for split, rows in arrays.rows().items()},
        classes=len(labels.classnames),
        dim=arrays.features.shape[1],
        store_dtype=arrays.features.dtype.name,
        prompts=0 if arrays.per_prompt is None else arrays.per_prompt.shape[1],
        notices=(*arrays.notices, *kept, *nothing),
        stores=(*stores, *([] if text is None else [text.path])),
        set_digest=set_name,
    )


class _Import:
    """Writes the stores of one file."""

    def __init__(
        self,
        path: Path,
        home: Home,
        arrays: Arrays,
        labels: Labels,
        labels_digest: str,
        progress: Progress,
    ) -> None:
        self._home = home
        self._arrays = arrays
        self._labels = labels
        self._progress = progress
        self._info = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"cacheclip": __version__},
            "dataset": labels.dataset,
            "root": str(path),
            "labels": labels_digest,
        }
        self.common = _common(arrays)
        self.written = 0

    def text(self) -> TextStore | None:
        """Write the text store, if there is text."""
        per_prompt = self._arrays.per_prompt
        if per_prompt is None:
            return None
        prompts = [[name] * per_prompt.shape[1] for name in self._labels.classnames]
        key = text_key(
            encoder=self.common["encoder"],
            compute=self.common["compute"],
            store_dtype=per_prompt.dtype.name,
            prompts=prompts,
            classnames=self._labels.classnames,
            template=TEMPLATE,
        )
        return write_text_store(
            self._home.text_path(self._labels.dataset, key_digest(key)),
            key,
            per_prompt=per_prompt.astype(np.float32),
            classnames=self._labels.classnames,
            prompts=prompts,
            info=self._info,
            home=self._home.option,
        )

    def split(self, split: str, rows: NDArray[np.intp]) -> Path:
        """Write what is missing of the store of one split."""
        dataset = self._labels.dataset
        ids = [self._arrays.ids[row] for row in rows.tolist()]
        key = image_key(layer="image", **self.common, dataset=dataset, split=split, ids=ids)
        path = self._home.store_path(dataset, split, "image", key_digest(key))
        with ImageStoreWriter(
            path, key, ids=ids, encode_batch=1, info=self._info, home=self._home.option
        ) as writer:
            for spec in writer.missing:
                part = rows[spec.first : spec.first + spec.rows]
                writer.write(spec, self._arrays.features[part].astype(np.float32))
                self.written += spec.rows
                self._progress("rows", self.written, len(self._arrays.ids))
            writer.finish()
        return path


def _common(arrays: Arrays) -> dict[str, Any]:
    """What all stores of the file share of their keys."""
    content = {"features": arrays.features, "logit_scale": np.array(arrays.logit_scale)}
    if arrays.per_prompt is not None:
        content["text_features"] = arrays.per_prompt
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


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, those that are known; the others stand there empty, by name."""
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), fix="check the path")
    with path.open("rb") as file:  # ours to close, also where it is no archive
        try:
            archive = np.load(file, allow_pickle=False)
        except _UNREADABLE:  # NumPy's own words advise to load it as a pickle
            raise _no_npz(path, "this is not a .npz file") from None
        if isinstance(archive, np.ndarray):
            raise _no_npz(path, "this is one array without a name, not a .npz file")
        with archive:
            return {name: _array(archive, name, path) for name in archive.files}


def _array(archive: Any, name: str, path: Path) -> NDArray[Any]:
    if name not in KNOWN:
        return np.empty(0)
    try:
        return np.asarray(archive[name])
    except _UNREADABLE as error:
        raise InputError(
            f"{name} cannot be read: {str(error) or 'it is damaged'}",
            where=str(path),
            fix=f"save {name} {KNOWN[name]}: texts with dtype=str, never as Python objects, whose "
            "pickles are not loaded",
        ) from None


def _no_npz(path: Path, what: str) -> InputError:
    arrays = ", ".join(f"{name}={name}" for name in REQUIRED)
    return InputError(
        what,
        where=str(path),
        fix=f"write one: np.savez({path.with_suffix('.npz').name!r}, {arrays})",
    )


def _own_labels(dataset: str, arrays: Arrays) -> Labels:
    """The labels as the file has them."""
    splits = {
        name: SplitLabels(
            samples_sha256([arrays.ids[row] for row in rows.tolist()]),
            None,
            arrays.labels[rows].tolist(),
        )
        for name, rows in arrays.rows().items()
    }
    return Labels(dataset, arrays.classnames, splits)


def _labels(own: Labels, path: Path, home: Home) -> tuple[Labels, tuple[str, ...]]:
    """The labels to go by, with notices: those of this file, but corrections by hand are kept.

    Raises:
        InputError: the home knows other samples or other labels by this name.
    """
    file = home.labels_file(own.dataset)
    try:
        kept = home.labels(own.dataset)
    except StoreError as error:
        if not file.exists():
            return own, ()
        return own, (f"{file}: {error.what}; put aside as {file.name}.broken and made anew",)
    if kept.digest == own.digest:
        return own, ()
    rename = f"cacheclip import {shlex.quote(str(path))} --name NAME{home.option}"
    if _samples(kept) != _samples(own):
        raise InputError(
            f"{own.dataset} is the name of other samples in this home",
            where=str(path),
            fix=f"give these a name: {rename}",
        )
    before = begun(home.dataset_folder(own.dataset), home.option)
    by_hand = any(one.header.info.get("labels") == own.digest for one in before)
    if by_hand and _sizes(kept) == _sizes(own):
        return kept, (
            f"{file} was corrected by hand and is kept; for the labels and class names of the "
            "import remove it and run the same command again",
        )
    again = extract_command(own.dataset, root=str(path), home=home.option)
    raise InputError(
        f"{own.dataset} has other labels or class names in this home",
        where=f"{path} now, {file} before",
        fix=f"give these a name: {rename}; or take them: rm {shlex.quote(str(file))} && {again}",
    )


def _samples(labels: Labels) -> dict[str, str]:
    return {name: split.ids_sha256 for name, split in labels.splits.items()}


def _sizes(labels: Labels) -> list[int]:
    """How many classes there are, and how many labels in each split."""
    return [
        len(labels.classnames),
        *(len(labels.splits[name].labels) for name in sorted(labels.splits)),
    ]
