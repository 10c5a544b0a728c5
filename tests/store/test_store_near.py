"""Near duplicates by feature: only across splits or classes, in any block, nearest first."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cacheclip.errors import InputError
from cacheclip.store import near
from cacheclip.store.features import FeatureSet
from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import files_sha256, samples_sha256
from cacheclip.store.schema import Failure

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe


@pytest.fixture
def features(build: "Builder", recipe: "type[Recipe]", home: Home) -> FeatureSet:
    """Give 50 and 20 random pictures, three of the latter nearly those of the former."""
    train, test = recipe(failed=()), recipe(split="test", rows=20, seed=8, failed=())
    x = {"train": train.features, "test": test.features}
    x["test"][4] = 3 * x["train"][7]  # the length does not count
    x["test"][5] = x["train"][11] + 0.05 * x["test"][5]
    x["train"][20] = x["train"][22]  # of classes 2 and 1, within one split
    x["train"][30] = x["train"][33]  # of one class and one split
    x["train"][40] = x["test"][9]
    splits = {}
    for one in (train, test):
        with one.writer(one.path(home)) as writer:
            for spec in writer.missing:
                rows = slice(spec.first, spec.first + spec.rows)
                bad = [Failure(40, "decode", "broken")] if one is train else []
                here = [f for f in bad if rows.start <= f.row < rows.stop]
                writer.write(spec, x[one.split][rows], here)
            writer.finish()
        splits[one.split] = SplitLabels(
            samples_sha256(one.ids),
            files_sha256(one.ids, one.stamps),
            [k % 3 for k in range(one.rows)],
        )
    home.write_labels(Labels("folder/pets", ["cat", "dog", "wren"], splits))
    build.record(train, build.text(train))
    return home.find("pets")


@pytest.mark.parametrize("block", [3, 2048])
def test_pairs_are_found_across_splits_and_classes(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(near, "BLOCK", block)
    found = near.near_duplicates(features)
    places = [(a.split, a.id[-8:-5], b.split, b.id[-8:-5]) for _, a, b in found.pairs]
    assert sorted(places[:2]) == [("train", "007", "test", "004"), ("train", "020", "train", "022")]
    assert places[2:] == [("train", "011", "test", "005")]  # the picture that failed is not there
    assert found.found == 3
    cosines = [cosine for cosine, _, _ in found.pairs]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] == pytest.approx(1, abs=1e-3)
    assert near.near_duplicates(features, 0.9999).found == 2
    first = found.as_json()["pairs"][2]["a"]
    assert (first["split"], first["class"]) == ("train", "wren")


def test_only_so_many_are_listed_and_all_are_counted(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "MOST", 2)
    found = near.near_duplicates(features)
    assert (found.found, len(found.pairs)) == (3, 2)
    assert found.sentence.startswith("3 pairs across splits or classes with a cosine of 0.99")
    assert np.isclose(found.pairs[0][0], 1, atol=1e-3)


def test_what_is_no_cosine_is_refused(features: FeatureSet) -> None:
    for wrong in (0, 1.01, float("nan")):
        with pytest.raises(InputError, match="is no cosine"):
            near.near_duplicates(features, wrong)
