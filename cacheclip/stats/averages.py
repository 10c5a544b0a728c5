"""Means over seeds, and over data sets that all count the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from cacheclip.stats.trials import Trial


@dataclass(frozen=True)
class Mean:
    """Of accuracies as fractions; no deviation where there is one value."""

    value: float
    deviation: float | None
    n: int


def over_seeds(values: Mapping[Trial, float]) -> dict[str, dict[int | None, float]]:
    """Each data set's values, a seed; of several shot counts their mean."""
    found: dict[str, dict[int | None, list[float]]] = {}
    for trial, value in values.items():
        found.setdefault(trial.dataset, {}).setdefault(trial.seed, []).append(value)
    return {name: {seed: mean(x) for seed, x in own.items()} for name, own in found.items()}


def by_dataset(values: Mapping[Trial, float]) -> dict[str, Mean]:
    """The mean over the seeds of each data set."""
    return {name: _mean([*own.values()]) for name, own in over_seeds(values).items()}


def over_datasets(values: Mapping[Trial, float]) -> Mean:
    """The unweighted mean of the data sets' means; it deviates as its values a seed do.

    Those are of the seeds that every data set has.
    """
    each = over_seeds(values)
    seeds = set.intersection(*(set(own) for own in each.values()))
    by_seed = _mean([mean(own[seed] for own in each.values()) for seed in seeds] or [0.0])
    return Mean(mean(mean(own.values()) for own in each.values()), by_seed.deviation, len(each))


def _mean(values: list[float]) -> Mean:
    return Mean(mean(values), stdev(values) if len(values) > 1 else None, len(values))
