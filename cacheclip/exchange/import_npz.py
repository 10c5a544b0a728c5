"""`npz/NAME`: arrays of one .npz file as stores, so that stage two reads them like any others.

There is no encoder, so the file stands for it: its `pretrained` is a digest of the features, the
text and the logit scale. Another file of the same samples is another feature set of the data set.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.arrays import Arrays, checked
from cacheclip.exchange.keys import (
    MODEL,
    OF_SENTENCES,
    TEMPLATE,
    common,
    key_of_text,
    labels_of,
    prompts_of,
)
from cacheclip.exchange.npz import read_npz
from cacheclip.exchange.source import Source
from cacheclip.files import regular
from cacheclip.store.begun import begun
from cacheclip.store.given import (
    DRAWS_FILE,
    GivenDraws,
    common_seeds,
    read_draws,
    write_draws,
)
from cacheclip.store.home import Home, Labels
from cacheclip.store.key import (
    NAME_RULE,
    can_be_name,
    extract_command,
    image_key,
    key_digest,
    set_digest,
)
from cacheclip.store.labels import labels_there
from cacheclip.store.schema import IMPORTED
from cacheclip.store.text import TextStore, write_text_store
from cacheclip.store.writer import ImageStoreWriter
from cacheclip.version import __version__

Progress = Callable[[str, int, int], None]


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
        draws: (seed, shots) of the support sets that the data set has.
        notices: one line each, for the user.
        stores: the folders of the image stores, and of the text store if there is one.
        set_digest: digest of the feature set.
        next_command: a command that can be run on it.
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
    draws: tuple[tuple[int, int], ...]
    notices: tuple[str, ...]
    stores: tuple[Path, ...]
    set_digest: str
    next_command: str

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return asdict(self) | {"stores": [str(path) for path in self.stores]}


def import_npz(
    file: Path,
    home: Home,
    name: str | None = None,
    progress: Progress = lambda what, done, total: None,
    logit_scale: float | None = None,
) -> ImportReport:
    """Bring the arrays of a file into stores, as far as they are not there yet.

    All of the file is checked before anything is written. It counts as the last extraction.

    Args:
        file: a .npz file of the arrays in `source.KNOWN`; pickled objects are never loaded.
        home: where the stores go.
        name: NAME of the data set `npz/NAME`; None takes the file's.
        progress: called with "rows", the count done, and the count in all.
        logit_scale: of the text features, where the file does not say it.

    Raises:
        InputError: the name cannot be one; the file is missing, no such file, or faulty; or its
            samples or labels are others than those which the home knows by that name.
        StoreError: a store is locked by another process, or damaged.
    """
    path = regular.expanded(file).absolute()
    regular.refuse_no_text(path)
    dataset = f"{IMPORTED}/{_name(path, name, home)}"
    command = extract_command(dataset, root=str(path), home=home.option)
    home.refuse_closed(dataset)
    arrays = _arrays(path, Source(str(path), command), logit_scale)
    own = labels_of(dataset, arrays)
    asked = {"logit_scale": logit_scale}
    with home.holding(dataset):  # or two of one name would each find nothing there
        labels, kept = _labels(own, path, home, asked)
        work = _Import(path, home, arrays, labels, own.digest, asked, progress)
        set_name = set_digest(**work.common, dataset=dataset)
        text = work.text(arrays.per_prompt, TEMPLATE)
        sentences = work.text(arrays.sentences, OF_SENTENCES)
        stores = [work.split(split, rows) for split, rows in arrays.rows().items()]
        home.write_labels(labels)
        draws, drawn = _draws(arrays, labels, home, command)
        home.record_extraction(
            dataset=dataset,
            model=MODEL,
            pretrained=work.common["encoder"]["pretrained"],
            set_digest=set_name,
            text_digest=None if text is None else text.digest,
            root=path,
            sentences_digest=None if sentences is None else sentences.digest,
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
        draws=draws,
        notices=(*arrays.notices, *kept, *drawn, *nothing),
        stores=(*stores, *(own.path for own in (text, sentences) if own is not None)),
        set_digest=set_name,
        next_command=_next_command(labels, draws),
    )


def _arrays(path: Path, source: Source, logit_scale: float | None) -> Arrays:
    try:
        return checked(read_npz(path, source), source, logit_scale)
    except MemoryError:
        raise InputError(
            "there is not enough memory for these arrays",
            where=source.file,
            fix="save the features as float16, or fewer of them",
        ) from None


class _Import:
    """Writes the stores of one file."""

    def __init__(
        self,
        path: Path,
        home: Home,
        arrays: Arrays,
        labels: Labels,
        labels_digest: str,
        asked: Mapping[str, Any],
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
            "asked": dict(asked),
            "labels": labels_digest,
        }
        self.common = common(arrays)
        self.written = 0

    def text(self, per_prompt: NDArray[Any] | None, template: str) -> TextStore | None:
        """Write a text store of features [C, T, D], if there are any."""
        if per_prompt is None:
            return None
        prompts = prompts_of(per_prompt, self._labels.classnames)
        key = key_of_text(self.common, per_prompt, self._labels.classnames, template)
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


def _name(path: Path, asked: str | None, home: Home) -> str:
    """NAME of `npz/NAME`, one that commands can look up."""
    name = path.stem if asked is None else asked
    if can_be_name(name):
        return name
    good = re.sub(r"[^\w .+()-]+", "-", name.removeprefix(f"{IMPORTED}/")).strip(" -_.+()")
    words = ["cacheclip", "import", str(path), "--name", good if can_be_name(good) else "NAME"]
    raise InputError(
        f"{name!r} cannot be the name of a data set",
        where=str(path) if asked is None else "--name",
        fix=f"{NAME_RULE}: {shlex.join(words)}{home.option}",
    )


def _draws(
    arrays: Arrays, labels: Labels, home: Home, command: str
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """(seed, shots) of the data set's draws, and notices: a file without any leaves those there."""
    folder, ids_sha256 = home.dataset_folder(labels.dataset), labels.splits["train"].ids_sha256
    if not arrays.draws:
        there = read_draws(folder, ids_sha256, command).rows
        stay = f"the draws of an earlier import stay: {shlex.quote(str(folder / DRAWS_FILE))}"
        return tuple(sorted(there)), (stay,) if there else ()
    place = np.cumsum(arrays.split == "train") - 1  # row of the file -> row of split train
    rows = {cell: tuple(place[own].tolist()) for cell, own in arrays.draws.items()}
    write_draws(folder, GivenDraws(ids_sha256, rows))
    return tuple(sorted(rows)), ()


def _next_command(labels: Labels, draws: Sequence[tuple[int, int]]) -> str:
    """A command that can be run: on the draws that came along, or on what every class has."""
    shots, seeds = common_seeds(draws)
    smallest = labels.smallest_class("train")
    if seeds:
        return f"cacheclip compare --shots {','.join(map(str, shots))} --seeds {seeds}"
    if draws:
        return f"cacheclip fit --shots {draws[0][1]} --seed {draws[0][0]}"
    if not smallest:
        return "cacheclip compare --methods zero-shot"
    return f"cacheclip compare --shots {min(16, smallest)}"


def _labels(
    own: Labels, path: Path, home: Home, asked: Mapping[str, Any]
) -> tuple[Labels, tuple[str, ...]]:
    """The labels to go by, with notices: those of this file, but corrections by hand are kept.

    Raises:
        InputError: the home knows other samples or other labels by this name.
    """
    file = home.labels_file(own.dataset)
    kept, notices = labels_there(file.parent, own.dataset)
    if kept is None:
        return own, notices
    if kept.digest == own.digest:
        return own, ()
    name = f"{IMPORTED}/NAME"
    rename = extract_command(name, asked, root=str(path), home=home.option)
    if _samples(kept) != _samples(own):
        raise InputError(
            f"{own.dataset} is the name of other samples in this home",
            where=str(path),
            fix=f"give these a name: {rename}",
        )
    before = begun(home.dataset_folder(own.dataset), home.option)
    by_hand = any(one.header.info.get("labels") == own.digest for one in before)
    if by_hand and _sizes(kept) == _sizes(own):
        return replace(kept, corrected=True), (
            f"{file} was corrected by hand and is kept; for the labels and class names of the "
            "import remove it and run the same command again",
        )
    again = extract_command(own.dataset, asked, root=str(path), home=home.option)
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
