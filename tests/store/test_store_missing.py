"""What stage two says of a home where features are missing, begun or damaged, with the command."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cacheclip.errors import StoreError
from cacheclip.store.home import Home

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe


def test_an_empty_home_offers_what_ships_with_the_package(home: Home) -> None:
    with pytest.raises(StoreError, match="no features yet") as caught:
        home.find()
    assert caught.value.where == f"{home.root} (nothing is there)"
    assert caught.value.fix == "cacheclip extract --dataset clipart"
    assert not home.root.exists()


def test_what_is_missing_comes_with_the_exact_command(build: "Builder", home: Home) -> None:
    build.extract(dataset="digits", root=None)
    with pytest.raises(StoreError, match="no features of zoo yet") as caught:
        home.find("zoo", "ViT-B-16", "openai")
    assert caught.value.where == f"{home.root} (has digits)"
    command = "cacheclip extract --dataset zoo --model ViT-B-16 --pretrained openai"
    assert caught.value.fix == f"--dataset digits, or make them: {command}"
    with pytest.raises(StoreError, match="no features of digits by the encoder") as caught:
        home.find("digits", "ViT-B-16")
    assert caught.value.where == f"{home.root} (has nano@v1)"
    command = "cacheclip extract --dataset digits --model ViT-B-16"
    assert caught.value.fix == f"--model nano, or make them: {command}"
    with pytest.raises(StoreError, match="no features of digits by the encoder") as caught:
        home.find(pretrained="v2")
    assert caught.value.fix.startswith("--model nano --pretrained v1, or make them: ")


def test_a_first_extraction_that_was_cut_off_says_how_far_it_got(
    recipe: "type[Recipe]", home: Home
) -> None:
    """No labels yet: they are the last that an extraction writes."""
    recipe().write(recipe().path(home), shards=3)
    for dataset in ("folder/pets", "pets", None):
        with pytest.raises(StoreError, match="incomplete: 3 of 4 shards done") as caught:
            home.find(dataset)
        assert (
            caught.value.fix
            == "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
        )
    assert home.feature_sets() == []


def test_a_later_extraction_that_was_cut_off_hides_nothing(
    build: "Builder", recipe: "type[Recipe]", home: Home, clip: dict[str, Any]
) -> None:
    build.extract()
    begun = recipe(encoder=clip)
    begun.write(begun.path(home), shards=1)
    assert home.find().name == "nano@v1"
    with pytest.raises(StoreError, match="train: 1 of 4 shards done, test: not begun") as caught:
        home.find(model=clip["name"])
    assert caught.value.fix == (
        "cacheclip extract --dataset /data/pets --model ViT-B-32-quickgelu --pretrained openai"
    )


def test_a_damaged_set_does_not_give_way_to_another_in_silence(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    build.extract(dataset="digits", root=None)
    build.extract()
    shard = recipe().path(home) / "shard-00001.h5"
    shard.unlink()
    with pytest.raises(StoreError, match="a shard of this store is missing") as caught:
        home.find()
    assert caught.value.where == str(shard)
    assert home.find("digits").dataset == "digits"


def test_an_unreadable_key_is_named_with_what_brings_it_back(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    build.extract()
    file = recipe().path(home) / "key.json"
    file.write_text("{")
    with pytest.raises(StoreError, match="not JSON") as caught:
        home.find()
    assert caught.value.where == str(file)
    command = "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
    assert caught.value.fix == f"rm {file} && {command}"


def test_lost_or_broken_labels_are_told_only_of_the_set_that_is_meant(
    build: "Builder", home: Home
) -> None:
    build.extract(dataset="digits", root=None)
    build.extract()
    command = "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
    file = home.labels_file("folder/pets")
    for text in (None, "{", '{"splits": {}}'):
        file.unlink()
        if text is not None:
            file.write_text(text)
        assert home.find("digits").dataset == "digits"
        assert [own.dataset for own in home.feature_sets()] == ["digits"]
        for name in ("pets", None):
            with pytest.raises(StoreError) as caught:
                home.find(name)
            assert caught.value.where == str(file)
            assert command in caught.value.fix
        file.write_text("{")


def test_labels_that_cannot_be_read_are_put_aside(build: "Builder", home: Home) -> None:
    build.extract()
    file = home.labels_file("folder/pets")
    file.write_text("{ my corrections")
    build.extract()
    assert home.find().dataset == "folder/pets"
    assert file.with_name("labels.json.broken").read_text() == "{ my corrections"


def test_a_set_with_too_many_failures_says_that_it_is_complete(
    recipe: "type[Recipe]", home: Home
) -> None:
    made = recipe()
    with made.writer(made.path(home)) as writer:
        made.fill(writer)  # and no `finish`: two pictures were too many
    with pytest.raises(StoreError, match="complete, but not accepted: 2 pictures failed") as caught:
        home.find()
    command = "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
    assert caught.value.fix.startswith(f"{command} --max-failures 2 ")


def test_the_command_of_a_set_is_that_of_its_last_extraction(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    build.extract(asked={"model": "nano"})
    build.extract(asked={"model": "nano", "max_failures": "5%"}, root="/moved/pets")
    command = "cacheclip extract --dataset /moved/pets --model nano --max-failures 5%"
    assert home.find().extract_command == command


def test_features_of_an_older_list_of_pictures_say_so(
    build: "Builder", recipe: "type[Recipe]", home: Home, clip: dict[str, Any]
) -> None:
    build.extract(encoder=clip)
    grown, test = recipe(rows=60), recipe(split="test", rows=20, failed=())
    build.store(grown)
    build.labels(grown, test)
    with pytest.raises(StoreError, match="train: not begun"):
        home.find(model=clip["name"])
    build.labels(grown)
    with pytest.raises(StoreError, match="those of other pictures than its labels") as caught:
        home.find(model=clip["name"])
    assert f"--model {clip['name']}" in caught.value.fix


def test_a_home_named_by_option_stands_in_every_command(
    build: "Builder", recipe: "type[Recipe]", home: Home, tmp_path: Path
) -> None:
    place = tmp_path / "my home"
    named = Home.resolve(place)
    shown = f" --home '{place}'"
    assert named.option == shown
    with pytest.raises(StoreError) as caught:
        named.find()
    assert caught.value.fix == f"cacheclip extract --dataset clipart{shown}"
    build.extract()
    shutil.move(home.root, place)
    assert named.find().extract_command.endswith(shown)
    store = named.find().store("train")
    (store.path / "shard-00001.h5").unlink()
    for read in (store.load, named.find):
        with pytest.raises(StoreError, match="shard of this store is missing") as caught:
            read()
        assert caught.value.fix.endswith(shown)
    assert recipe().path(named).exists()
