"""Sets of regions on disk as scenes, in pairs of what is learned from and what is scored."""

from collections.abc import Iterator, Sequence

from cacheclip.detection.scenes import Scenes
from cacheclip.errors import UsageError, counted, some
from cacheclip.store.home import Home
from cacheclip.store.regions import Regions


def pairs(
    home: Home,
    train: Sequence[str],
    test: Sequence[str],
    model: str | None,
    pretrained: str | None,
) -> Iterator[tuple[Scenes, Scenes]]:
    """The sets of these names side by side: what is learned from, and what is scored.

    Raises:
        UsageError: they are not as many, or two of a pair do not go together.
        StoreError: there is no such set.
    """
    if len(train) != len(test):
        raise UsageError(
            f"{counted(len(train), 'set')} to learn from, and {len(test)} to be scored on",
            where="--train, --test",
            fix="name a set to be scored on for each: --train A,B --test C,D",
        )
    for names in zip(train, test, strict=True):
        learned, scored = (Regions.find(home, name, model, pretrained) for name in names)
        _refuse_others(learned, scored)
        yield _scenes(learned), _scenes(scored)


def _scenes(regions: Regions) -> Scenes:
    return Scenes(regions.set, regions, lambda rows: regions.features(rows).features, regions.truth)


def _refuse_others(train: Regions, test: Regions) -> None:
    """Refuse two sets that do not go together.

    Raises:
        UsageError: they are one set, or have other classes or another encoder.
    """
    where = f"--train {train.set.dataset}, --test {test.set.dataset}"
    if train.set.dataset == test.set.dataset:
        raise UsageError(
            "the same scenes to learn from and to be scored on",
            where=where,
            fix="extract two sets: cacheclip extract --regions FILE",
        )
    if list(train.classnames) != list(test.classnames):
        raise UsageError(
            f"other classes: {some(train.classnames)}; {some(test.classnames)}",
            where=where,
            fix="give both files the same categories, in the same order",
        )
    if train.set.encoder != test.set.encoder:
        raise UsageError(
            f"features of two encoders: {train.set.name} and {test.set.name}",
            where=where,
            fix=f"--model {train.set.encoder['name']}, or encode both by it",
        )
