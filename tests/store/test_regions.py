"""A region set of any raggedness is read as it was written, by parts and in any order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cacheclip.datasets.boxes import region_id
from cacheclip.errors import StoreError
from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import image_key, key_digest, samples_sha256, set_digest_of, text_key
from cacheclip.store.labels import UNLABELLED
from cacheclip.store.regions import Annotations, Proposals, Regions, write_regions
from cacheclip.store.schema import REGIONS_SPLIT
from cacheclip.store.text import write_text_store
from cacheclip.store.writer import ImageStoreWriter
from tests.makers import ENCODER, build_home

NAMES = ["ant", "bee"]
COMPUTE = {"dtype": "float32"}


def write_set(
    root: Path, counts: NDArray[np.int64], true: int, dim: int = 16, rows_per_shard: int = 64
) -> tuple[Home, NDArray[np.float32]]:
    """A region set of random boxes and features: `counts` proposals a picture, `true` boxes."""
    home, draw, name = Home(root), np.random.default_rng(0), "regions/made"
    of = np.repeat(np.arange(len(counts)), counts)
    boxes = draw.uniform(1, 99, (len(of) + true, 4)).round(2).astype(np.float32)
    proposals = Proposals(
        images=[f"{k:05d}.jpg" for k in range(len(counts))],
        image_ids=np.arange(len(counts)) + 100,
        category_ids=np.array([1, 2]),
        novel=np.array([False, True]),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        boxes=boxes[: len(of)],
        scores=draw.random(len(of), dtype=np.float32),
    )
    image = np.sort(draw.integers(0, len(counts), true))
    labels = draw.integers(0, 2, true)
    annotations = Annotations(
        image, boxes[len(of) :], labels, np.zeros(true, np.bool_), np.arange(true)
    )
    ids = [
        region_id(proposals.images[k], box)
        for k, box in zip([*of, *image], boxes.tolist(), strict=True)
    ]
    told: dict[str, Any] = {"encoder": ENCODER | {"embed_dim": dim}, "compute": COMPUTE}
    key = image_key(
        layer="image",
        preprocess={"size": [8, 8]},
        store_dtype="float16",
        dataset=name,
        split=REGIONS_SPLIT,
        ids=ids,
        **told,
    )
    x = draw.standard_normal((len(ids), dim), np.float32)
    path = home.store_path(name, REGIONS_SPLIT, "image", key_digest(key))
    with ImageStoreWriter(
        path, key, ids=ids, rows_per_shard=rows_per_shard, encode_batch=4, info={}
    ) as writer:
        for spec in writer.missing:
            writer.write(spec, x[spec.first : spec.first + spec.rows])
        writer.finish()
    text = text_key(prompts=[["a"], ["b"]], classnames=NAMES, template="t", **told)
    store = write_text_store(
        home.text_path(name, key_digest(text)),
        text,
        per_prompt=draw.standard_normal((2, 1, dim), np.float32),
        classnames=NAMES,
        prompts=[["a"], ["b"]],
        info={},
    )
    sha = samples_sha256(ids)
    write_regions(home.dataset_folder(name), proposals, annotations, sha)
    split = SplitLabels(sha, None, [*[UNLABELLED] * len(of), *labels.tolist()])
    home.write_labels(Labels(name, NAMES, {REGIONS_SPLIT: split}))
    home.record_extraction(
        dataset=name,
        model="toy",
        pretrained="v1",
        set_digest=set_digest_of(key),
        text_digest=store.digest,
        root=None,
    )
    return home, x


def test_rows_are_read_across_shards_in_the_order_asked_for(tmp_path: Path) -> None:
    counts = np.array([0, 130, 3, 0, 61, 1, 0])  # pictures without any, and more than a shard
    home, x = write_set(tmp_path, counts, true=9)
    regions = Regions.find(home, "made")
    assert np.diff(regions.offsets).tolist() == counts.tolist()
    assert len(regions.images) == 7 and regions.boxes.shape == (195, 4)
    np.testing.assert_allclose(regions.features().features, x[:195], rtol=1e-3, atol=1e-3)
    wanted = [194, 0, 64, 63, 64, 128]
    np.testing.assert_allclose(regions.features(wanted).features, x[wanted], rtol=1e-3, atol=1e-3)
    truth = regions.truth()
    np.testing.assert_allclose(truth.features([8, 0]).features, x[[203, 195]], rtol=1e-3, atol=1e-3)
    parts = [regions.features(range(a, b)) for a, b in zip([0, 70], [70, 195], strict=True)]
    np.testing.assert_array_equal(
        np.concatenate([part.features for part in parts]), regions.features().features
    )


@pytest.mark.parametrize(("count", "true"), [(0, 5), (4, 0)])
def test_a_set_may_have_no_proposals_or_no_truth(tmp_path: Path, count: int, true: int) -> None:
    home, x = write_set(tmp_path, np.array([count]), true)
    regions = Regions.find(home, "made")
    truth = regions.truth()
    assert (len(regions.boxes), len(regions.scores), len(truth.labels)) == (count, count, true)
    assert regions.features().features.shape == (count, 16)
    np.testing.assert_allclose(truth.features().features, x[count:], rtol=1e-3, atol=1e-3)


def test_boxes_of_a_newer_version_are_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("cacheclip.store.regions.FORMAT", 2)
        home, _ = write_set(tmp_path, np.array([3]), 1)
    with pytest.raises(StoreError, match="by a newer cacheclip") as caught:
        Regions.find(home, "made")
    assert "rm" not in caught.value.fix.split()


def test_boxes_of_another_set_are_refused_and_so_are_whole_pictures(tmp_path: Path) -> None:
    home, _ = write_set(tmp_path / "one", np.array([3, 4]), 2)
    other, _ = write_set(tmp_path / "other", np.array([4, 3]), 2)
    (other.dataset_folder("regions/made") / "regions.h5").replace(
        home.dataset_folder("regions/made") / "regions.h5"
    )
    with pytest.raises(StoreError, match="of other boxes than the features"):
        Regions.find(home, "made")
    build_home(tmp_path / "one")
    with pytest.raises(StoreError, match="of whole pictures") as caught:
        Regions.find(home, "toys")
    assert "--regions" in caught.value.fix
    assert home.find().dataset == "toys"  # boxes are not what a study means
    for split, layer, said in (
        ("train", "image", "have no split train"),
        (REGIONS_SPLIT, "pre-projection", "no pre-projection features"),
    ):
        with pytest.raises(StoreError, match=said):
            other.find("made").store(split, layer)
