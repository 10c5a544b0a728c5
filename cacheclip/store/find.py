"""Which feature set a command means, what else it could have meant, and what to run if none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError, argument, instead, is_in_python, some
from cacheclip.files.regular import expanded
from cacheclip.store.begun import Begun
from cacheclip.store.features import PRECISIONS, FeatureSet, is_of_boxes
from cacheclip.store.gather import Candidate, not_accepted
from cacheclip.store.key import extract_command
from cacheclip.store.labels import LABELS_FILE

DEFAULT_DATASET = "clipart"  # ships with the package, so that the command always works

Log = Sequence[Mapping[str, Any]]


def matching(name: str | None, ids: Sequence[str], log: Log) -> list[str]:
    """The ids of data sets that a name may mean.

    Args:
        name: an id, the folder or table that was extracted, or the last part of an id; None means
            any of whole pictures.
        ids: those that there are.
        log: the extractions, oldest first.
    """
    if name is None:  # boxes are no pictures that a study could mean
        return [own for own in ids if not is_of_boxes(own)]
    if name in ids:
        return [name]
    folder = str(expanded(name.removeprefix("folder/").removeprefix("csv/")).absolute())
    rooted = {line["dataset"] for line in log if line["root"] == folder}
    from_there = [own for own in ids if own in rooted]
    named = [own for own in ids if own.rpartition("/")[2] == name]
    return [own for own in from_there if own in named] or from_there or named


def choose(
    found: Sequence[Candidate],
    log: Log,
    *,
    dataset: str | None,
    model: str | None,
    pretrained: str | None,
) -> FeatureSet | None:
    """The set extracted last among those that fit; of its twins the one computed most precisely.

    Args:
        found: the candidates of the data sets that `dataset` may mean.
        log: the extractions, oldest first.
        dataset: what was asked for.
        model: name of the encoder, None for any.
        pretrained: its weights, None for any.

    Returns:
        The set with its notices, or None where nothing fits.

    Raises:
        StoreError: what fits is incomplete or damaged.
    """
    age = {line["set"]: k for k, line in enumerate(log)}

    def last(candidate: Candidate) -> tuple[int, str]:
        return age.get(candidate.features.digest, -1), candidate.features.digest

    fitting = [c for c in found if is_encoder(c.features.encoder, model, pretrained)]
    if not fitting:
        return None
    # What was whole once and is damaged now must not give way to another set without a word;
    # what was never finished may.
    whole = [c for c in fitting if c.usable or c.features.digest in age]
    newest = max(whole or fitting, key=last)
    if not newest.usable:
        raise newest.error()
    sets = [candidate.features for candidate in whole if candidate.usable]
    twins = [own for own in sets if _twins(own, newest.features)]
    chosen = min(twins, key=lambda twin: PRECISIONS.index(twin.compute["dtype"]))
    notices = _notices(chosen, sets, twins, named=dataset is not None)
    if newest.features.digest not in age and len(sets) > len(twins):
        notices = ("no extraction is known to be the last: the log does not say", *notices)
    return replace(chosen, notices=notices)


def missing(
    home: Path,
    ids: Sequence[str],
    stores: Sequence[Begun],
    *,
    option: str,
    dataset: str | None,
    model: str | None,
    pretrained: str | None,
) -> StoreError:
    """The error where no feature set fits.

    Args:
        home: the home folder.
        ids: all data sets that there are.
        stores: what was begun of the data sets that `dataset` may mean.
        option: `Home.option`.
        dataset: what was asked for.
        model: name of the encoder.
        pretrained: its weights.
    """
    fitting = [one for one in stores if is_encoder(one.header.key["encoder"], model, pretrained)]
    problems = [one.problem for one in fitting if one.problem is not None]
    if problems:
        return problems[0]
    if fitting:
        return _unfinished(fitting)
    asked = {"model": model, "pretrained": pretrained}
    if stores:
        return _other_encoders(stores, asked, where=str(home), option=option)
    fix = extract_command(dataset or DEFAULT_DATASET, asked, home=option)
    if dataset is not None and ids:
        named = instead(dataset, ids, option="dataset", see=f"cacheclip ls{option}")
        fix = f"{named}, or make them: {fix}"
    return StoreError(
        f"there are no features{'' if dataset is None else f' of {dataset}'} yet",
        where=f"{home} ({f'has {some(ids)}' if ids else 'nothing is there'})",
        fix=fix,
    )


def _other_encoders(
    stores: Sequence[Begun], asked: Mapping[str, Any], *, where: str, option: str
) -> StoreError:
    """The error where the data sets are there, but not by the encoder asked for."""
    ids = sorted({store.header.key["data"]["id"] for store in stores})
    encoders = [store.header.key["encoder"] for store in stores]
    names = ", ".join(sorted({_name(encoder) for encoder in encoders}))
    named = sorted({_option(encoder, full=asked["pretrained"] is not None) for encoder in encoders})
    command = extract_command(ids[0], asked, root=stores[0].header.info.get("root"), home=option)
    return StoreError(
        f"there are no features of {' or '.join(ids)} by the encoder asked for",
        where=f"{where} (has {names})",
        fix=f"{' or '.join(named)}, or make them: {command}",
    )


def _unfinished(stores: Sequence[Begun]) -> StoreError:
    """The error of an extraction that wrote no labels: it was cut off, or too much failed."""
    header = stores[0].header
    same = (header.key["data"]["id"], header.key["encoder"])
    own = [s for s in stores if (s.header.key["data"]["id"], s.header.key["encoder"]) == same]
    done, total = sum(store.done for store in own), sum(store.total for store in own)
    failed = sum(store.failed for store in own if store.header.key["layer"] == "image")
    where = f"{own[0].path.parent.parent}, encoder {_name(same[1])}"
    if done == total and (own[0].path.parent.parent / LABELS_FILE).exists():
        return StoreError(
            f"the features of {same[0]} are those of other pictures than its labels",
            where=where,
            fix=header.extract_command,
        )
    if done == total:
        return not_accepted(header, failed, where=where)
    bad = f", {failed} pictures failed" if failed else ""
    return StoreError(
        f"the features of {same[0]} are incomplete: {done} of {total} shards done{bad}",
        where=where,
        fix=header.extract_command,
    )


def _option(encoder: Mapping[str, Any], *, full: bool) -> str:
    """What chooses an encoder, with its weights where these were asked for."""
    model = argument("model", encoder["name"])
    between = ", " if is_in_python() else " "
    return f"{model}{between}{argument('pretrained', encoder['pretrained'])}" if full else model


def _name(encoder: Mapping[str, Any]) -> str:
    return f"{encoder['name']}@{encoder['pretrained']}"


def is_encoder(encoder: Mapping[str, Any], model: str | None, pretrained: str | None) -> bool:
    """Whether this is the encoder asked for; a checkpoint file also goes by its name alone."""
    own = encoder["pretrained"]
    weights = pretrained is None or own in (pretrained, Path(pretrained).name)
    return model in (None, encoder["name"]) and weights


def _twins(one: FeatureSet, other: FeatureSet) -> bool:
    """Whether two sets differ in nothing but the precision they were computed in."""

    def rest(features: FeatureSet) -> tuple[Any, ...]:
        return features.dataset, features.encoder, features.preprocess, features.store_dtype

    return rest(one) == rest(other)


def _notices(
    chosen: FeatureSet, sets: Sequence[FeatureSet], twins: Sequence[FeatureSet], *, named: bool
) -> tuple[str, ...]:
    notices = []
    datasets = sorted({own.dataset for own in sets} - {chosen.dataset})
    if datasets:
        notices.append(
            f"data set {chosen.dataset}, extracted last; others with {argument('dataset')}: "
            f"{', '.join(datasets)}"
        )
    elif not named:
        notices.append(f"data set {chosen.dataset}, the only one extracted")
    rest = [own for own in sets if own.dataset == chosen.dataset and own not in twins]
    encoders = sorted({own.name for own in rest} - {chosen.name})
    if encoders:
        notices.append(
            f"encoder {chosen.name}, extracted last; others with {argument('model')}: "
            f"{', '.join(encoders)}"
        )
    elif rest:
        notices.append(
            f"{len(rest) + 1} feature sets of {chosen.dataset} by {chosen.name}; "
            "took the one extracted last"
        )
    precisions = sorted({twin.compute["dtype"] for twin in twins} - {chosen.compute["dtype"]})
    if precisions:
        notices.append(
            f"computed in {chosen.compute['dtype']}; also there: {', '.join(precisions)}"
        )
    return tuple(notices)
