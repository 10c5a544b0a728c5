"""What stage two finds in a home, by the names that people give it, and what it says about it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cacheclip.errors import InputError, StoreError
from cacheclip.store.find import matching
from cacheclip.store.home import Home
from cacheclip.store.key import encoder_options, key_digest

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe


def test_the_option_goes_before_the_variable_before_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHECLIP_HOME", str(tmp_path / "variable"))
    assert Home.resolve(tmp_path / "option").root == tmp_path / "option"
    assert Home.resolve().root == tmp_path / "variable"
    monkeypatch.delenv("CACHECLIP_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    assert Home.resolve().root.name == "cacheclip"


def test_a_home_among_pictures_is_refused(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (tmp_path / "link").symlink_to(pictures)
    for root in (pictures, pictures / "home", tmp_path / "link" / "home"):
        with pytest.raises(InputError, match="within the data folder"):
            Home(root).refuse_within(pictures)
    Home(tmp_path / "home").refuse_within(pictures)


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/etc", "a/b/c/d", "a/-", "a//b"])
def test_an_id_never_leads_out_of_the_home(home: Home, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the id"):
        home.dataset_folder(name)


def test_a_set_has_stores_labels_and_text(build: "Builder", home: Home) -> None:
    digest = build.extract()
    (found,) = home.feature_sets()
    assert found.digest == digest
    assert sorted(found.images) == [("test", "image"), ("train", "image")]
    assert found.store("train").rows == 50
    assert list(found.labels.classnames) == ["cat", "dog", "wren"]
    assert found.text is not None
    with pytest.raises(StoreError, match="no pre-projection features of split test") as caught:
        found.store("test", "pre-projection")
    assert caught.value.fix == "cacheclip extract --dataset /data/pets --model nano --pretrained v1"


def test_a_moved_home_is_found(build: "Builder", home: Home, tmp_path: Path) -> None:
    digest = build.extract()
    shutil.move(home.root, tmp_path / "elsewhere")
    found = Home(tmp_path / "elsewhere").find()
    assert found.digest == digest
    assert found.store("train").load().ok.sum() == 48


def test_without_a_name_it_is_the_set_extracted_last(build: "Builder", home: Home) -> None:
    build.extract(dataset="digits", root=None)
    first = build.extract(dataset="folder/pets")
    assert home.find().dataset == "folder/pets"
    assert home.find().notices == (
        "data set folder/pets, extracted last; others with --dataset: digits",
    )
    build.extract(dataset="digits", root=None)  # encodes nothing, and still is the last
    assert home.find().dataset == "digits"
    assert home.find("folder/pets").digest == first
    assert home.find("folder/pets").notices == ()
    last = home.last_extraction()
    assert last is not None
    assert (last["dataset"], last["model"], last["root"]) == ("digits", "nano", None)


def test_the_only_set_is_named_too(build: "Builder", home: Home) -> None:
    build.extract(dataset="digits")
    assert home.find().notices == ("data set digits, the only one extracted",)


def test_a_name_may_be_the_last_part_of_an_id(build: "Builder", home: Home) -> None:
    build.extract(dataset="torch/food101", root=None)
    assert home.find("food101").dataset == "torch/food101"
    build.extract(dataset="coop/food101", root=None)
    found = home.find("food101")
    assert found.dataset == "coop/food101"
    assert found.notices == (
        "data set coop/food101, extracted last; others with --dataset: torch/food101",
    )
    assert home.find("torch/food101").dataset == "torch/food101"


def test_a_whole_id_goes_before_a_last_part(build: "Builder", home: Home) -> None:
    build.extract(dataset="digits", root=None)
    build.extract(dataset="folder/digits")
    assert home.find("digits").dataset == "digits"


def test_a_name_means_the_set_of_that_name_among_those_of_one_folder() -> None:
    log = [
        {"dataset": f"folder/{name}", "root": str(Path("ex").absolute())} for name in ("ex", "x")
    ]
    ids = ["folder/ex", "folder/x", "folder/y"]
    assert matching("ex", ids, log) == ["folder/ex"]
    assert matching(str(Path("ex").absolute()), ids, log) == ["folder/ex", "folder/x"]
    assert matching("y", ids, log) == ["folder/y"]


def test_name_at_weights_stands_for_both_options() -> None:
    assert encoder_options("nano@v1", None) == ("nano", "v1")
    assert encoder_options("nano", "v1") == ("nano", "v1")
    assert encoder_options("local-dir:a@b", None) == ("local-dir:a@b", None)
    assert encoder_options(None, None) == (None, None)


def test_a_folder_may_be_named_as_it_was_extracted(
    build: "Builder", home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pictures = tmp_path / "birds"
    build.extract(dataset="folder/finches", root=str(pictures))
    monkeypatch.chdir(tmp_path)
    for name in (str(pictures), f"folder/{pictures}", "birds", "./birds", "folder/birds"):
        assert home.find(name).dataset == "folder/finches"


def test_among_encoders_it_is_the_one_extracted_last(
    build: "Builder", home: Home, clip: dict[str, Any]
) -> None:
    build.extract()
    build.extract(encoder=clip)
    found = home.find("pets")
    assert found.name == "ViT-B-32-quickgelu@openai"
    assert found.notices == (
        "encoder ViT-B-32-quickgelu@openai, extracted last; others with --model: nano@v1",
    )
    assert home.find(model="nano").name == "nano@v1"
    assert home.find(pretrained="openai").name == found.name


def test_a_checkpoint_file_goes_by_its_name(
    build: "Builder", home: Home, clip: dict[str, Any]
) -> None:
    build.extract(encoder={**clip, "pretrained": "mine.pt"})
    assert home.find(pretrained="/weights/mine.pt").encoder["pretrained"] == "mine.pt"


def test_the_most_precise_of_twins_is_taken(build: "Builder", home: Home) -> None:
    build.extract(compute="float32")
    build.extract(compute="bfloat16")
    build.extract(compute="float16")
    found = home.find()
    assert found.compute["dtype"] == "float32"
    assert found.notices[-1] == "computed in float32; also there: bfloat16, float16"


def test_sets_that_share_a_name_and_differ_otherwise_are_told(build: "Builder", home: Home) -> None:
    build.extract()
    build.extract(store_dtype="float32")
    found = home.find()
    assert found.store_dtype == "float32"
    assert "2 feature sets of folder/pets by nano@v1; took the one" in found.notices[-1]


def test_the_text_of_the_newest_extraction_wins(build: "Builder", home: Home) -> None:
    build.extract(template="a photo of a {}.")
    build.extract(template="a drawing of a {}.")
    text = home.find().text
    assert text is not None
    assert text.template == "a drawing of a {}."
    build.extract(template="a photo of a {}.")
    text = home.find().text
    assert text is not None
    assert text.template == "a photo of a {}."
    (text.path / "done.json").unlink()  # begun anew and killed
    text = home.find().text
    assert text is not None
    assert text.template == "a drawing of a {}."


def test_text_of_another_encoder_is_never_taken(
    build: "Builder", recipe: "type[Recipe]", home: Home, clip: dict[str, Any]
) -> None:
    build.extract()
    train = recipe(encoder=clip, rows=50)
    build.store(train)
    build.labels(train)
    build.record(train, None)
    assert home.find(model="nano").text is not None
    assert home.find(model=clip["name"]).text is None


def test_stores_of_another_list_of_pictures_are_left_out(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    build.extract()
    grown, test = recipe(rows=60), recipe(split="test", rows=20, failed=())
    build.store(grown)
    assert home.find().store("train").rows == 50  # as long as the labels are those of 50
    build.labels(grown, test)
    assert home.find().store("train").rows == 60


def test_a_torn_line_of_the_log_costs_nothing_else(build: "Builder", home: Home) -> None:
    digest = build.extract()
    with (home.root / "extractions.jsonl").open("a") as log:
        log.write('{"dataset": "dig')
    assert home.find().digest == digest
    build.extract(dataset="digits", root=None)
    assert home.find().dataset == "digits"


def test_stores_to_copy_rows_from(
    build: "Builder", recipe: "type[Recipe]", home: Home, clip: dict[str, Any]
) -> None:
    build.extract()
    for other in (recipe(layer="pre-projection"), recipe(encoder=clip), recipe(compute="float16")):
        build.store(other)
    begun = recipe(rows=90)
    begun.write(begun.path(home), shards=1)
    found = home.stores_like(recipe(rows=70).key)
    assert sorted((store.key["data"]["split"], store.rows) for store in found) == [
        ("test", 20),
        ("train", 50),
    ]


def test_a_memo_only_saves_time(home: Home) -> None:
    digest = key_digest({"arguments": 1})
    assert home.memo(digest) is None
    home.remember(digest, {"set": "abc"})
    assert home.memo(digest) == {"set": "abc"}
    (home.root / "memo" / f"{digest}.json").write_text("{")
    assert home.memo(digest) is None


def test_the_log_is_one_json_object_a_line(build: "Builder", home: Home) -> None:
    build.extract()
    build.extract()
    lines = (home.root / "extractions.jsonl").read_text().splitlines()
    assert [sorted(json.loads(line)) for line in lines] == 2 * [
        ["dataset", "digest", "model", "pretrained", "root", "set", "text", "time"]
    ]


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "a" / "b", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="the home is not a folder"):
            Home.resolve(place)


def test_a_memo_below_a_file_is_none(home: Home) -> None:
    home.root.mkdir()
    (home.root / "memo").write_text("")
    assert home.memo("abc") is None
