import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cacheclip.draws import Draw, Fewer, Pool, Shots, coop, few_shot, listed
from cacheclip.errors import InputError

NAMES = ["ant", "bee", "cow"]


def pool(per_class: list[int], prefix: str) -> Pool:
    labels = [c for c, n in enumerate(per_class) for _ in range(n)]
    ids = [f"{prefix}/{NAMES[c]}/{k}" for k, c in enumerate(labels)]
    return Pool(ids, labels, list(range(100, 100 + len(ids))))


def test_a_draw_has_its_shots_of_every_class_and_no_image_twice() -> None:
    drawn = few_shot(pool([9, 9, 9], "a"), pool([5, 5, 5], "v"), NAMES, 8, 1, where="set")
    assert [drawn.support_labels.count(c) for c in range(3)] == [8, 8, 8]
    assert [drawn.val_labels.count(c) for c in range(3)] == [4, 4, 4]
    assert len(set(drawn.support)) == 24
    assert all(
        f"/{NAMES[c]}/" in id_
        for c, id_ in zip(drawn.support_labels, drawn.support_ids, strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
def test_few_shots_lie_within_more_shots_of_the_same_seed(seed: int) -> None:
    train, val = pool([20, 20, 20], "a"), pool([4, 4, 4], "v")
    smaller: set[int] = set()
    for shots in (1, 2, 4, 8, 16):
        drawn = few_shot(train, val, NAMES, shots, seed, where="set")
        assert smaller < set(drawn.support)
        smaller = set(drawn.support)


def test_seeds_differ_and_the_order_of_the_pool_does_not_matter() -> None:
    train, val = pool([20, 20, 20], "a"), pool([], "v")
    one, two = (few_shot(train, val, NAMES, 4, seed, where="set") for seed in (1, 2))
    assert one.draw_id != two.draw_id
    order = list(range(60))
    random.Random(0).shuffle(order)
    mixed = Pool(
        [train.ids[k] for k in order],
        [train.labels[k] for k in order],
        [train.rows[k] for k in order],
    )
    assert few_shot(mixed, val, NAMES, 4, 1, where="set") == one


def test_a_draw_is_pinned() -> None:
    """Other ids here mean that published draw ids are broken: raise the protocol's version."""
    drawn = few_shot(pool([5, 5, 5], "a"), pool([2, 2, 2], "v"), NAMES, 2, 1, where="set")
    assert drawn.draw_id == "cb03bbff8242ca3a"


def test_a_validation_split_that_lacks_a_class_gives_none() -> None:
    drawn = few_shot(pool([2, 2, 2], "a"), pool([2, 2], "v"), NAMES, 1, 1, where="set")
    assert drawn.val == ()


def test_too_few_images_name_the_classes_and_offer_what_is_possible() -> None:
    with pytest.raises(InputError) as caught:
        few_shot(pool([16, 11, 9], "a"), pool([], "v"), NAMES, 16, 1, where="data set birds")
    assert caught.value.what == "2 of 3 classes have fewer than 16 training pictures"
    assert "bee 11, cow 9" in caught.value.where
    assert "--shots 9 or fewer" in caught.value.fix


def test_all_takes_every_labelled_image_in_one_order_for_every_seed() -> None:
    train, val = pool([9, 2, 5], "a"), pool([5, 6, 7], "v")
    unlabelled = Pool([*train.ids, "x"], [*train.labels, -1], [*train.rows, 7])
    one, two = (few_shot(unlabelled, val, NAMES, "all", seed, where="set") for seed in (1, 2))
    assert sorted(one.support) == sorted(train.rows)
    assert [one.support_labels.count(c) for c in range(3)] == [9, 2, 5]
    assert two.support_ids == one.support_ids
    assert one.record()["shots"] == "all"
    assert [one.val_labels.count(c) for c in range(3)] == [4, 4, 4]
    assert two.val_ids != one.val_ids


def test_keep_takes_what_there_is_of_a_class_and_names_it() -> None:
    train, val = pool([9, 2, 5], "a"), pool([1, 6, 2], "v")
    kept = few_shot(train, val, NAMES, 5, 1, where="set", fewer="keep")
    assert [kept.support_labels.count(c) for c in range(3)] == [5, 2, 5]
    assert [kept.val_labels.count(c) for c in range(3)] == [1, 4, 2]
    assert kept.short == (("bee", 2),)
    smaller = few_shot(train, val, NAMES, 3, 1, where="set", fewer="keep")
    assert set(smaller.support) < set(kept.support)


def test_keep_changes_nothing_where_every_class_has_its_shots() -> None:
    train, val = pool([9, 8, 7], "a"), pool([4, 4, 4], "v")
    kept = few_shot(train, val, NAMES, 4, 1, where="set", fewer="keep")
    assert kept == few_shot(train, val, NAMES, 4, 1, where="set")
    assert kept.short == ()


@pytest.mark.parametrize(("shots", "fewer"), [("all", "error"), (4, "keep"), (4, "error")])
def test_a_class_without_training_images_is_an_error_whatever_is_asked(
    shots: Shots, fewer: Fewer
) -> None:
    with pytest.raises(InputError, match="1 of 3 classes have no training picture") as caught:
        few_shot(pool([9, 0, 5], "a"), pool([], "v"), NAMES, shots, 1, where="set", fewer=fewer)
    assert "bee 0" in caught.value.where


def test_unlabelled_images_are_never_drawn() -> None:
    train = Pool(["x", "a", "b", "c"], [-1, 0, 1, 2], [0, 1, 2, 3])
    assert few_shot(train, pool([], "v"), NAMES, 1, 1, where="set").support == (1, 2, 3)


PUBLISHED = json.loads((Path(__file__).parent / "coop_draws.json").read_text())


def published(name: str, split: str) -> Pool:
    """A split in the order of its file; a row is its place there."""
    labels = [label for label, n in PUBLISHED["sets"][name][split] for _ in range(n)]
    return Pool([f"{split}/{k}" for k in range(len(labels))], labels, range(len(labels)))


def as_published(draw: Draw) -> str:
    lists = json.dumps([list(draw.support), list(draw.val)])
    return hashlib.sha256(lists.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", PUBLISHED["sets"])
def test_coop_draws_are_the_published_index_lists(name: str) -> None:
    """Five shot counts and three seeds of six data sets, in their order."""
    train, val = published(name, "train"), published(name, "val")
    names = [str(label) for label in sorted(set(train.labels))]
    for of, digest in PUBLISHED["sets"][name]["lists"].items():
        shots, seed = (int(part.split("_")[1]) for part in of.split("-"))
        draw = coop(train, val, names, shots, seed, where="set")
        assert as_published(draw) == digest, of
        assert all(
            train.labels[k] == c for k, c in zip(draw.support, draw.support_labels, strict=True)
        )


def test_a_published_list_stands_here_whole() -> None:
    train, val = published("oxford_pets", "train"), published("oxford_pets", "val")
    draw = coop(train, val, [str(c) for c in range(37)], 2, 1, where="set")
    whole: dict[str, Any] = PUBLISHED["oxford_pets shot_2-seed_1"]
    assert [list(draw.support), list(draw.val)] == [whole["train"], whole["val"]]


def test_coop_takes_all_of_a_small_class_and_its_stream_goes_on() -> None:
    train, val = pool([9, 2, 5], "a"), pool([4, 4, 4], "v")
    with pytest.raises(InputError, match="1 of 3 classes have fewer than 4"):
        coop(train, val, NAMES, 4, 1, where="set")
    kept = coop(train, val, NAMES, 4, 1, where="set", fewer="keep")
    assert kept.short == (("bee", 2),)
    stream = random.Random(1)
    assert list(kept.support[:4]) == [train.rows[k] for k in stream.sample(range(9), 4)]
    assert list(kept.support[4:6]) == [109, 110]
    assert list(kept.support[6:]) == [train.rows[k] for k in stream.sample(range(11, 16), 4)]
    without = coop(train, pool([4, 4], "v"), NAMES, 2, 1, where="set")
    assert (len(without.support), without.val) == (6, ())
    with pytest.raises(InputError, match="here are all"):
        coop(train, val, NAMES, "all", 1, where="set")


def test_a_listed_draw_is_the_list_and_its_record_lists_it_again() -> None:
    train, val = pool([5, 5, 5], "a"), pool([2, 2, 2], "v")
    first = few_shot(train, val, NAMES, 2, 1, where="set")
    record = first.record()
    ids = record["support"], record["val"]
    assert listed(train, val, NAMES, *ids, 2, 1, where="set") == first
    back = listed(train, val, NAMES, ids[0][::-1], [], 2, 1, where="set")
    assert back.support == first.support[::-1]
    assert back.val == first.val  # ranked, as none is listed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids: [*ids, "a/ant/99"], "names pictures that have no features .*: a/ant/99"),
        (lambda ids: [*ids, ids[0]], "names a picture more than once"),
        (lambda ids: ids[:4], "no picture of 1 of 3 classes: cow"),
    ],
)
def test_a_list_that_does_not_fit_says_why(change: Any, said: str) -> None:
    train, val = pool([5, 5, 5], "a"), pool([], "v")
    ids = few_shot(train, val, NAMES, 2, 1, where="set").support_ids
    with pytest.raises(InputError, match=said) as caught:
        listed(train, val, NAMES, change(list(ids)), [], 2, 1, where="set")
    assert "--draw ranked" in caught.value.fix
