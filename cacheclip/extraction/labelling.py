"""Labels of an extraction: the data set's own, unless somebody corrected them by hand."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cacheclip.datasets.base import DataSet, Split
from cacheclip.errors import StoreError
from cacheclip.prompts.classnames import listed
from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import extract_command, files_sha256, samples_sha256
from cacheclip.store.labels import BEFORE_FILE, labels_there

_CHANGED = "the labels or class names of the same pictures are others than before"


def files_of(split: Split) -> str | None:
    """What the files of a split are known by; None where the ids name the pictures for good."""
    return None if split.stamps is None else files_sha256(split.ids, split.stamps)


def own_labels(dataset: DataSet, names: Sequence[str] | None = None) -> Labels:
    """The labels as the data have them, with the class names that somebody gave, if any."""
    splits = {
        name: SplitLabels(samples_sha256(split.ids), files_of(split), list(split.labels))
        for name, split in dataset.splits.items()
    }
    own = Labels(dataset.id, list(dataset.classnames), splits)
    return replace(own, classnames=list(names or dataset.classnames), own_sha256=own.digest)


def labels_of(
    dataset: DataSet, home: Home, names: Sequence[str] | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """The labels to go by, with notices: corrected ones of the same samples are kept.

    So are class names that were given before, unless there are others now.

    Args:
        dataset: as it lies there.
        home: where labels may be already.
        names: one a class, given by the user.

    Raises:
        StoreError: the corrected ones are not one a picture, or may not be read.
    """
    own = own_labels(dataset, names)
    file = home.labels_file(dataset.id)
    kept, notices = labels_there(file.parent, dataset.id)
    if kept is None:
        return own, notices
    if _ids(kept) != _ids(own):
        lost = () if names else tuple(_names_lost(kept.classnames, own.classnames))
        if kept.corrected:
            lost = (
                f"{file}: corrected by hand, for other pictures; put aside as {BEFORE_FILE}",
                *lost,
            )
        return own, lost
    if _content(kept) == _content(own):
        return own, ()
    if kept.own_sha256 == kept.digest:  # nobody touched the record, so it is the data that changed
        return own, (_CHANGED,)
    if kept.proved and _content(kept)[1] != _content(own)[1]:  # neither here, but names were given
        same = len(kept.classnames) == len(own.classnames)
        given = names or (kept.classnames if same else own.classnames)
        return replace(own, classnames=list(given)), (_CHANGED,)
    for name, split in kept.splits.items():
        if len(split.labels) != len(own.splits[name].labels):
            root = None if dataset.root is None else str(dataset.root)
            command = extract_command(dataset.id, root=root, home=home.option)
            raise StoreError(
                f"{len(split.labels)} labels for the {len(own.splits[name].labels)} pictures of "
                f"split {name}",
                where=str(file),
                fix=f"correct the file, or: rm {shlex.quote(str(file))} && {command}",
            )
    splits = {
        name: replace(split, files_sha256=own.splits[name].files_sha256)
        for name, split in kept.splits.items()
    }
    same = len(kept.classnames) == len(own.classnames)
    by_hand = not same or _content(kept)[1] != _content(own)[1]
    if by_hand or (kept.corrected and not names):
        notice = (
            f"{file} was corrected by hand and is kept; for the data set's own labels and class "
            "names remove it and run the same command again"
        )
    elif names:
        return own, ()
    else:
        notice = (
            f"class names as they were given before: {listed(kept.classnames)}; for the data "
            f"set's own remove {file} and run the same command again"
        )
    classnames = names if names and same else kept.classnames
    corrected = by_hand or kept.corrected
    return replace(own, classnames=list(classnames), splits=splits, corrected=corrected), (notice,)


def _names_lost(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """Tell that a set of other pictures takes none of the names that were given before."""
    if len(before) == len(now) and list(before) != list(now):
        yield (
            f"other pictures than before, so the class names are the data's own, {listed(now)}; "
            f"they were {listed(before)}: --classnames FILE names them again"
        )


def _ids(labels: Labels) -> dict[str, str]:
    return {name: split.ids_sha256 for name, split in labels.splits.items()}


def _content(labels: Labels) -> tuple[list[str], dict[str, list[int]]]:
    splits = {name: list(split.labels) for name, split in labels.splits.items()}
    return list(labels.classnames), splits
