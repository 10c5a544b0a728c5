"""Boxes are samples: their features are those of what lies in them, kept like any store."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cacheclip.datasets.boxes import box_of, box_set, file_of, region_id
from cacheclip.encoders.base import Encoder, load
from cacheclip.errors import CacheclipError, InputError, StoreError, UsageError
from cacheclip.extraction.crops import coverage, crop
from cacheclip.extraction.passes import CropsPass, PatchesPass, PooledPass
from cacheclip.extraction.plan import ExtractRequest, make_plan
from cacheclip.extraction.run import run
from cacheclip.store.home import Home
from cacheclip.store.overview import overview
from cacheclip.store.regions import REGIONS_FILE, Regions
from tests.extraction.test_extract_run import StopError, files
from tests.makers import cacheclip

Asked = Callable[..., ExtractRequest]
Painter = Callable[[Path, int], None]
NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", f" --home {shlex.quote(str(tmp_path / 'home'))}")


@pytest.fixture
def zoo(tmp_path: Path, paint: Painter) -> Path:
    """Give a file of boxes of four pictures, 24 x 20; the proposals are not in their order."""
    for number in range(4):
        paint(tmp_path / "zoo" / "park" / f"{number}.png", number)
    draw = np.random.default_rng(0)

    def box() -> list[float]:
        left, top = draw.uniform(0, 14), draw.uniform(0, 10)
        return [*np.round([left, top, *draw.uniform(3, 10, 2)], 2).tolist()]

    images = [7, 3, 9, 5]
    content = {
        "images": [
            {"id": own, "file_name": f"park/{k}.png", "width": 24, "height": 20}
            for k, own in enumerate(images)
        ],
        "categories": [
            {"id": 10 * k, "name": name, "novel": name == "owl"} for k, name in enumerate(NAMES)
        ],
        "annotations": [
            {"id": 50 - k, "image_id": images[k % 3], "category_id": 10 * (k % 3), "bbox": box()}
            for k in range(7)
        ],
        "proposals": [
            {"image_id": images[(k * 3) % 5 % 4], "bbox": box(), "score": k / 40} for k in range(40)
        ],
    }
    (tmp_path / "zoo" / "boxes.json").write_text(json.dumps(content))
    return tmp_path / "zoo" / "boxes.json"


def changed(file: Path, **parts: Any) -> Path:
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))
    return file


@pytest.fixture(scope="module")
def encoder(tower: Path) -> Encoder:
    from cacheclip.encoders.base import EncoderSpec

    return load(EncoderSpec(model=f"local-dir:{tower}", device="cpu"))


def picture() -> Image.Image:
    levels = np.random.default_rng(5).integers(0, 256, (20, 24, 3), np.uint8)
    return Image.fromarray(levels)


def test_a_box_is_cut_about_its_middle_and_at_the_edge_of_the_picture() -> None:
    whole = picture()
    pixels = np.asarray(whole)
    np.testing.assert_array_equal(crop(whole, (4, 2, 8, 6), 1.0), pixels[2:8, 4:12])
    np.testing.assert_array_equal(crop(whole, (4, 2, 8, 6), 1.5), pixels[0:10, 2:14])
    np.testing.assert_array_equal(crop(whole, (-3, -3, 99, 99), 1.5), pixels)
    assert crop(whole, (23.9, 19.9, 0.1, 0.1), 1.0).size == (1, 1)
    for share in (coverage((24, 20), (4, 2, 8, 6), (16, 16)),):
        assert share.sum() == pytest.approx(16 * 16 * 8 * 6 / (24 * 20))
    for box in ((24, 0, 3, 3), (0, -5, 3, 5)):
        with pytest.raises(Exception, match="outside"):
            crop(whole, box, 1.0)
        with pytest.raises(Exception, match="outside"):
            coverage((24, 20), box, (16, 16))


def test_a_crop_is_the_mean_of_two_unit_vectors(encoder: Encoder) -> None:
    way = CropsPass(encoder, {})
    one, whole = region_id("a", (4, 2, 8, 6)), region_id("a", (0, 0, 24, 20))
    import torch

    pixels = torch.stack([way.pixels(picture(), one), way.pixels(picture(), whole)])
    assert tuple(pixels.shape) == (2, *way.shape)
    made = way.encode(pixels)["image"]
    parts = [encoder.encode_images(pixels[:, k])["image"] for k in (0, 1)]
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    np.testing.assert_allclose(made, (unit[0] + unit[1]) / 2, rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(made[1]) == pytest.approx(1, abs=1e-5)  # both scales are the picture


def test_a_pooled_box_is_the_mean_of_the_places_it_covers(encoder: Encoder) -> None:
    import torch

    way, places = PooledPass(encoder, {}), PatchesPass(encoder)
    boxes = [(0, 0, 24, 20), (0, 0, 12, 10), (12, 0, 12, 20), (6, 0, 12, 10)]
    ids = [region_id("a", box) for box in boxes]
    other = Image.fromarray(np.asarray(picture())[::-1].copy())
    pixels = torch.stack([*(way.pixels(picture(), own) for own in ids), way.pixels(other, ids[1])])
    made = way.encode(pixels)["image"]
    shape = (2, 2, 2, -1)  # two pictures, each of 2 x 2 places
    grid = places.encode(pixels[[0, 4], :3])["patches"].reshape(shape)
    wanted = [
        grid[0].mean((0, 1)),
        grid[0, 0, 0],
        grid[0, :, 1].mean(0),
        grid[0, 0].mean(0),
        grid[1, 0, 0],
    ]
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)


def test_proposals_and_truth_come_back_as_the_file_has_them(
    asked: Asked, home: Home, zoo: Path
) -> None:
    report = run(asked(zoo.parent, regions=zoo), home)
    assert (report.dataset, report.encoded) == ("regions/zoo-boxes", 47)
    content = json.loads(zoo.read_text())
    regions = Regions.find(home, "zoo-boxes")
    assert list(regions.classnames) == NAMES
    assert regions.novel.tolist() == [False, False, True]
    assert regions.image_ids.tolist() == [7, 3, 9, 5]
    assert regions.category_ids.tolist() == [0, 10, 20]
    truth = regions.truth()
    for number, own in enumerate([7, 3, 9, 5]):
        here = slice(*regions.offsets[number : number + 2])
        mine = [one for one in content["proposals"] if one["image_id"] == own]
        np.testing.assert_allclose(regions.boxes[here], [o["bbox"] for o in mine], rtol=1e-6)
        np.testing.assert_allclose(regions.scores[here], [o["score"] for o in mine])
        true = [one for one in content["annotations"] if one["image_id"] == own]
        at = truth.image == number
        assert truth.ids[at].tolist() == [one["id"] for one in true]
        assert (truth.labels[at] * 10).tolist() == [one["category_id"] for one in true]
        np.testing.assert_allclose(truth.boxes[at].tolist(), [o["bbox"] for o in true] or [], 1e-6)
    ids = regions.store.ids()
    assert [file_of(own) for own in ids[-7:]] == [regions.images[k] for k in truth.image]
    np.testing.assert_allclose([box_of(own) for own in ids[:40]], regions.boxes, rtol=1e-6)


def test_features_are_read_by_proposal_and_those_of_truth_apart(
    asked: Asked, home: Home, zoo: Path, encoder: Encoder
) -> None:
    run(asked(zoo.parent, regions=zoo), home)
    regions = Regions.find(home, "regions/zoo-boxes")
    every, some = regions.features(), regions.features([31, 2, 2])
    assert every.features.shape == (40, 16)
    np.testing.assert_array_equal(some.features, every.features[[31, 2, 2]])
    way = CropsPass(encoder, {})
    sample = regions.store.ids()[31]
    whole = Image.open(zoo.parent / file_of(sample)).convert("RGB")
    own = way.encode(way.pixels(whole, sample)[None])["image"]
    np.testing.assert_allclose(every.features[[31]], own, rtol=2e-3, atol=1e-3)
    assert regions.truth().features().features.shape == (7, 16)
    with pytest.raises(IndexError):
        regions.features([40])  # an annotated box is no proposal


def test_boxes_pooled_two_ways_are_two_sets_and_each_is_encoded_once(
    asked: Asked, home: Home, zoo: Path
) -> None:
    run(asked(zoo.parent, regions=zoo), home)
    crops = Regions.find(home, "zoo-boxes")
    assert run(asked(zoo.parent, regions=zoo, pool="patches"), home).encoded == 47
    pooled = Regions.find(home, "zoo-boxes")
    assert pooled.set.digest != crops.set.digest
    assert not np.allclose(pooled.features().features, crops.features().features)
    before = files(home)
    again = run(asked(zoo.parent, regions=zoo), home)
    assert (again.encoded, again.reused) == (0, 47)
    assert Regions.find(home, "zoo-boxes").set.digest == crops.set.digest
    assert {name for name in files(home) if "shard" in name} == {n for n in before if "shard" in n}


def test_other_boxes_take_over_what_is_of_the_same_box(asked: Asked, home: Home, zoo: Path) -> None:
    run(asked(zoo.parent, regions=zoo), home)
    before = Regions.find(home, "zoo-boxes")
    content = json.loads(zoo.read_text())
    content["proposals"][0]["bbox"] = [1, 1, 5, 5]
    content["proposals"][1]["score"] = 0.99
    changed(zoo, **content)
    assert run(asked(zoo.parent, regions=zoo), home).encoded == 1
    after = Regions.find(home, "zoo-boxes")
    moved = (after.boxes != before.boxes).any(1)
    assert moved.sum() == 1 and after.scores.max() == np.float32(0.99)
    np.testing.assert_array_equal(
        after.features().features[~moved], before.features().features[~moved]
    )
    content["proposals"][1]["score"] = 0.5  # which no feature depends on
    changed(zoo, **content)
    assert run(asked(zoo.parent, regions=zoo), home).encoded == 0
    assert Regions.find(home, "zoo-boxes").scores.max() < 0.99


@pytest.mark.parametrize("pool", ["crops", "patches"])
def test_what_was_cut_off_goes_on_to_the_same_bytes(
    asked: Asked, home: Home, zoo: Path, tmp_path: Path, pool: str
) -> None:
    request = asked(zoo.parent, regions=zoo, pool=pool, rows_per_shard=10, batch_size=8)
    whole = Home(tmp_path / "whole")
    run(request, whole)

    def stop(what: str, done: int, total: int) -> None:
        if what == "pictures" and 25 * total // 47 <= done < total:
            raise StopError

    with pytest.raises(StopError):
        run(request, home, stop)
    with pytest.raises(StoreError, match="incomplete") as caught:
        Regions.find(home, "zoo-boxes")
    assert "--regions" in caught.value.fix and ("--pool" in caught.value.fix)
    kept = {name for name in files(home) if "shard-" in name}
    assert 0 < len(kept) < 5
    assert run(replace(request, batch_size=3), home).reused >= 10
    assert files(home) == files(whole)


def test_a_flipped_bit_of_the_boxes_is_found_and_its_fix_mends_it(
    asked: Asked, home: Home, zoo: Path
) -> None:
    run(asked(zoo.parent, regions=zoo), home)
    file = home.dataset_folder("regions/zoo-boxes") / REGIONS_FILE
    whole, chance = file.read_bytes(), np.random.default_rng(1)
    wanted, true = Regions.find(home, "zoo-boxes"), Regions.find(home, "zoo-boxes").truth()
    fixes = set()
    for place in chance.choice(8 * len(whole), 50, replace=False):
        data = bytearray(whole)
        data[place // 8] ^= 1 << (place % 8)
        file.write_bytes(data)
        try:
            found = Regions.find(home, "zoo-boxes")
            truth = found.truth()
        except CacheclipError as error:
            fixes.add(error.fix)
            continue
        np.testing.assert_array_equal(found.boxes, wanted.boxes)
        np.testing.assert_array_equal(found.scores, wanted.scores)
        np.testing.assert_array_equal(truth.labels, true.labels)
        assert list(found.images) == list(wanted.images)
    (fix,) = fixes
    remove, _, again = fix.partition(" && ")
    Path(shlex.split(remove)[1]).unlink()
    assert cacheclip(*shlex.split(again)[1:]).code == 0
    assert file.read_bytes() == whole


def test_truth_is_read_by_who_asks_for_it(asked: Asked, home: Home, zoo: Path) -> None:
    run(asked(zoo.parent, regions=zoo), home)
    regions = Regions.find(home, "zoo-boxes")
    regions.file.unlink()
    assert regions.features().ok.all()
    with pytest.raises(StoreError, match="missing") as caught:
        regions.truth()
    assert "--regions" in caught.value.fix


def test_a_home_lists_boxes_and_takes_them_for_no_pictures(
    asked: Asked, home: Home, zoo: Path
) -> None:
    run(asked(zoo.parent, regions=zoo), home)
    (line,) = overview(home).lines
    assert line.dataset == "regions/zoo-boxes" and line.rows == {"test": 47}
    with pytest.raises(StoreError, match="no features yet"):
        home.find()  # of whole pictures
    said = cacheclip("rm", "zoo-boxes", "--yes", "--home", str(home.root))
    assert said.code == 0, said.err
    assert not (home.root / "stores" / "regions").exists()


def test_pictures_that_are_broken_fail_by_box_and_are_left_out(
    asked: Asked, home: Home, zoo: Path
) -> None:
    (zoo.parent / "park" / "3.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="failed"):
        run(asked(zoo.parent, regions=zoo), home)
    run(asked(zoo.parent, regions=zoo, max_failures="50%"), home)
    regions = Regions.find(home, "zoo-boxes")
    found, last = regions.features(), slice(regions.offsets[3], None)
    assert not found.ok[last].any() and found.ok[: regions.offsets[3]].all()


def test_boxes_of_another_copy_of_a_picture_are_no_boxes_of_this_one(
    asked: Asked, home: Home, zoo: Path
) -> None:
    Image.open(zoo.parent / "park" / "0.png").rotate(90, expand=True).save(
        zoo.parent / "park" / "0.png"
    )
    with pytest.raises(InputError, match="failed") as caught:
        run(asked(zoo.parent, regions=zoo), home)
    assert "20 x 24 pixels, the file of boxes says 24 x 20" in caught.value.where
    assert "--orientation as-stored" in caught.value.where


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"images": []}, "'images' is missing"),
        ({"proposals": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}, "no image has the id 1"),
        ({"proposals": [{"image_id": 7, "bbox": [0, 0, 0, 1]}]}, "entry 0: bbox"),
        ({"proposals": [{"image_id": 7, "bbox": [30, 0, 5, 1]}]}, "entry 0: bbox"),
        ({"proposals": [{"image_id": 7, "bbox": [0, 0, 5, 1], "score": float("nan")}]}, "finite"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "category"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two categories"),
        ({"images": [{"id": 7, "file_name": "../a.png"}]}, "leads out"),
        ({"proposals": [], "annotations": []}, "neither proposals nor annotations"),
    ],
)
def test_a_file_of_another_form_is_refused_by_what_is_wrong(
    zoo: Path, parts: dict[str, Any], said: str
) -> None:
    if "annotations" not in parts:
        parts = {**parts, "annotations": []}
    if "images" in parts:
        parts = {**parts, "proposals": [{"image_id": 7, "bbox": [0, 0, 1, 1]}]}
    with pytest.raises(InputError, match=said):
        box_set(zoo.parent, changed(zoo, **parts), alias=None, hash_files=False)


def test_options_that_do_not_go_with_boxes_are_refused(asked: Asked, home: Home, zoo: Path) -> None:
    for told in (
        {"views": 3},
        {"query_views": 3},
        {"layers": ("patches",)},
        {"classes_from": "top"},
    ):
        with pytest.raises(UsageError, match="for whole pictures"):
            make_plan(asked(zoo.parent, regions=zoo, **told), home)
    with pytest.raises(UsageError, match="no boxes to pool"):
        make_plan(asked(zoo.parent, pool="crops"), home)
    with pytest.raises(InputError, match="no folder of pictures"):
        make_plan(asked("nowhere", regions=zoo), home)
    with pytest.raises(InputError, match="No such file"):
        make_plan(asked(zoo.parent, regions=zoo.with_name("no.json")), home)
