"""Deleting what a home holds: a set, an encoder of it, or what nothing refers to."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cacheclip.errors import StoreError, UsageError
from cacheclip.files.locks import lock
from cacheclip.store.home import Home
from cacheclip.store.overview import overview
from cacheclip.store.prune import unused
from cacheclip.store.remove import parts_of, remove

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe

LATER = "9999-01-01T00:00:00+00:00"
OTHER = {"name": "ViT-B-32", "pretrained": "openai", "library": "open_clip", "weights_sha256": "c"}


@pytest.fixture
def other(recipe: "type[Recipe]") -> dict[str, Any]:
    return {**recipe().encoder, **OTHER}


def stores(home: Home) -> set[Path]:
    return {file.parent for file in home.root.glob("stores/**/key.json")}


def why(home: Home) -> list[tuple[str, str]]:
    return [(part.path.parent.name, part.why) for part in unused(home)]


def test_a_set_goes_with_its_labels_and_nothing_else(build: "Builder", home: Home) -> None:
    build.extract(dataset="digits", root=None)
    build.extract(dataset="folder/pets")
    (home.root / "results.jsonl").write_text("{}\n")
    kept = {path for path in stores(home) if "digits" in path.parts}
    parts = parts_of(home, "/data/pets")  # by its folder, as `fit --dataset` has it
    assert sum(part.why == "labels" for part in parts) == 1
    assert all(part.path.exists() for part in parts)  # nothing is gone before it is asked for
    gone, left = remove(home, parts)
    assert (gone, left) == (parts, [])
    assert stores(home) == kept
    assert home.datasets() == ["digits"]
    assert not (home.root / "stores" / "folder").exists()
    assert home.find().dataset == "digits"
    assert (home.root / "results.jsonl").read_text() == "{}\n"


def test_one_encoder_goes_and_the_other_stays(
    build: "Builder", home: Home, other: dict[str, Any]
) -> None:
    build.extract()
    build.extract(encoder=other)
    assert home.find().name == "ViT-B-32@openai"
    with pytest.raises(StoreError, match="by the encoder asked for") as caught:
        parts_of(home, "pets", "RN50")
    assert "ViT-B-32 openai, nano v1" in caught.value.where
    remove(home, parts_of(home, "pets", "ViT-B-32@openai"))
    found = home.find("pets")
    assert found.name == "nano@v1"
    assert found.text is not None
    remove(home, parts_of(home, "pets", "nano"))
    assert home.datasets() == []


def test_a_name_that_may_mean_two_sets_or_none_deletes_nothing(
    build: "Builder", home: Home
) -> None:
    build.extract(dataset="coop/food101", root=None)
    build.extract(dataset="torch/food101", root=None)
    with pytest.raises(UsageError, match="coop/food101 or torch/food101"):
        parts_of(home, "food101")
    with pytest.raises(StoreError, match="there are no features of pets"):
        parts_of(home, "pets")
    assert parts_of(home, "coop/food101")


def test_a_kill_in_the_middle_leaves_nothing_that_is_believed(
    build: "Builder", home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.extract()
    unlink = Path.unlink
    count = len([path for path in home.root.rglob("stores/**/*") if path.is_file()])

    class Killed(BaseException):
        pass

    for last in range(1, count, 3):
        left = last

        def killed(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            try:
                remove(home, parts_of(home, "pets"))
            except Killed:
                pass
            except StoreError:  # there is nothing more to find
                break
        if last > 5:  # five stores: by then none says that it is complete
            with pytest.raises(StoreError):
                home.find("pets")
    if home.datasets():
        remove(home, parts_of(home, "pets"))  # a second try ends it
    assert not stores(home)


def test_what_is_being_written_stays_and_is_said(build: "Builder", home: Home) -> None:
    build.extract()
    store = home.find().store("train").path
    before = stores(home)
    with lock(store / "lock"):
        gone, left = remove(home, parts_of(home, "pets"))
    assert gone == []
    assert len(left) == 1
    assert f"train/{store.name}, held by pid" in left[0]
    assert stores(home) == before
    assert home.find("pets").store("train").load().ok.any()


def test_only_files_of_ours_go_and_no_link_is_followed(
    build: "Builder", home: Home, tmp_path: Path
) -> None:
    build.extract()
    train, test = (home.find().store(split).path for split in ("train", "test"))
    (train / "notes.txt").write_text("mine")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / ".a.1.00000000.tmp").write_text("mine")
    if (test / "tmp").exists():
        (test / "tmp").rmdir()
    (test / "tmp").symlink_to(tmp_path / "precious")
    remove(home, parts_of(home, "pets"))
    assert (train / "notes.txt").read_text() == "mine"
    assert (tmp_path / "precious" / ".a.1.00000000.tmp").exists()
    assert stores(home) == set()


def test_nothing_is_unused_after_an_extraction(
    build: "Builder", home: Home, other: dict[str, Any]
) -> None:
    build.extract()
    build.extract(encoder=other)
    build.extract(template="a drawing of a {}.")
    assert unused(home) == []


def test_stores_of_earlier_pictures_go_where_newer_ones_are_whole(
    build: "Builder", home: Home, recipe: "type[Recipe]", other: dict[str, Any]
) -> None:
    build.extract()
    build.extract(encoder=other)
    earlier = stores(home)
    begun = recipe(rows=60, failed=())
    later = recipe(rows=70, failed=(), created=LATER)
    for cut_off in (later, recipe(encoder=other, rows=70, failed=(), created=LATER)):
        cut_off.write(cut_off.path(home), shards=1)
    assert unused(home) == []  # an extraction that was cut off goes on
    begun.write(begun.path(home), shards=1)

    train = recipe(rows=55, failed=())
    test = recipe(split="test", rows=20, failed=())
    for one in (train, test):
        build.store(one)
    build.labels(train, test)
    build.record(train, build.text(train))
    gone = unused(home)
    assert {part.path for part in gone} == {recipe().path(home), begun.path(home)}
    assert {part.why for part in gone} == {"earlier pictures"}
    remove(home, gone)
    assert home.find("pets", "nano").store("train").rows == 55
    kept = recipe(encoder=other).path(home)
    assert kept in earlier & stores(home)  # the other encoder takes its rows from there
    assert later.path(home) in stores(home)
    assert unused(home) == []


def test_text_of_no_set_and_half_written_files_go(
    build: "Builder", home: Home, recipe: "type[Recipe]", other: dict[str, Any]
) -> None:
    build.text(recipe(encoder=other))
    build.extract()
    stale, fresh = (home.root / f".results.jsonl.{n}.0123abcd.tmp" for n in (1, 2))
    inside = home.find().store("train").path / "tmp" / ".shard-00000.h5.1.0123abcd.tmp"
    inside.parent.mkdir(exist_ok=True)
    for file in (stale, fresh, inside, home.root / ".mine.tmp"):
        file.write_text("half")
    os.utime(stale, (time.time() - 7200,) * 2)
    (home.root / "memo").mkdir()
    (home.root / "memo" / "a.json").write_text('{"stores": ["stores/none"], "text": "x"}')
    gone = unused(home)
    assert sorted(part.why for part in gone) == [
        *("half-written", "half-written", "note of stores that are gone", "text of no set")
    ]
    remove(home, gone)
    assert unused(home) == []
    assert fresh.exists()
    assert (home.root / ".mine.tmp").exists()
    assert home.find().text is not None


def test_the_overview_says_what_is_complete_and_how_to_finish_the_rest(
    build: "Builder", home: Home, recipe: "type[Recipe]", other: dict[str, Any]
) -> None:
    build.extract(dataset="digits", root=None)
    build.extract()
    begun = recipe(encoder=other)
    begun.write(begun.path(home), shards=1)
    alone = recipe(dataset="folder/birds", root="/data/birds")
    alone.write(alone.path(home), shards=2)
    lines = {(line.dataset, line.encoder): line for line in overview(home).lines}
    assert len(lines) == 4
    assert lines["digits", "nano v1"].state == "complete"
    pets = lines["folder/pets", "nano v1"]
    assert pets.state == "complete, extracted last"
    assert pets.as_cells()[2:4] == ["50/0/20", "text"]
    assert pets.finish is None
    half = lines["folder/pets", "ViT-B-32 openai"]
    assert half.state == "incomplete, 1 of 4 shards"
    assert half.finish is not None
    assert half.finish.startswith("cacheclip extract --dataset /data/pets --model ViT-B-32")
    assert lines["folder/birds", "nano v1"].state == "incomplete, 2 of 4 shards"

    newer = recipe(rows=80, failed=(), created=LATER)
    newer.write(newer.path(home), shards=1)
    again = {(line.dataset, line.encoder): line for line in overview(home).lines}
    pets = again["folder/pets", "nano v1"]
    assert pets.state == "complete; 1 of 5 shards of its newer pictures"
    assert pets.finish is not None
