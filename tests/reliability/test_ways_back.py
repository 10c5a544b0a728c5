"""What is lost or damaged is named, and what the message says to do brings it back."""

import json
from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import StoreError
from cacheclip.files.disk import sealed
from tests.reliability.flips import noted, recalled
from tests.reliability.world import World, look


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)


def edit(file: Path, **changes: Any) -> None:
    """Say something else in a JSON file, and seal it as if it had always said so."""
    file.write_text(json.dumps(sealed(json.loads(file.read_text()) | changes)))


@pytest.mark.parametrize("damage", ["lost", "spoilt"])
def test_a_file_of_ids_comes_back_by_the_command_that_is_named(world: World, damage: str) -> None:
    """Nor does a note that all is there count for more than the file."""
    noted(world)
    right = look(world).answers
    (file,) = world.files("stores/npz/toys/train/image-*/ids.h5")
    data = file.read_bytes()
    file.unlink() if damage == "lost" else file.write_bytes(bytes(len(data)))
    assert recalled(world).answers is None
    with pytest.raises(StoreError) as caught:
        look(world)
    assert caught.value.where == str(file)
    assert caught.value.fix.startswith("cacheclip " if damage == "lost" else f"rm {file} && ")
    world.run(caught.value.fix)
    assert file.read_bytes() == data
    assert look(world).answers == right
    assert recalled(world).answers is not None


@pytest.mark.parametrize("changes", [{"set_digest": "0" * 64}, {"failed": 3}, {"model": "other"}])
def test_a_note_that_says_other_than_its_stores_is_not_believed(
    world: World, changes: dict[str, Any]
) -> None:
    noted(world)
    edit(world.files("memo/*.json")[0], **changes)
    assert recalled(world).answers is None


@pytest.mark.parametrize("dim", [10**9, -5, 0, 7, True])
@pytest.mark.parametrize("layer", ["train/image", "-/text"])
def test_numbers_of_a_record_that_cannot_be_take_no_memory(
    world: World, layer: str, dim: int
) -> None:
    (file,) = world.files(f"stores/npz/toys/{layer}-*/done.json")
    content = json.loads(file.read_text())
    for record in content.get("shards", []):
        record["dim"] = dim
    edit(file, **(content | {"dim": dim}))
    with pytest.raises(StoreError, match="damaged") as caught:
        look(world)
    assert str(file.parent) in caught.value.where


@pytest.mark.parametrize("name", ["labels", "*/image-*/key", "*/image-*/done", "-/text-*/key"])
def test_lists_in_lists_in_lists_are_no_traceback(world: World, name: str) -> None:
    right = look(world).answers
    file = world.files(f"stores/npz/toys/{name}.json")[0]
    file.write_text("[" * 200_000)
    with pytest.raises(StoreError, match="not JSON") as caught:
        look(world)
    world.run(caught.value.fix)
    assert look(world).answers == right


def test_stores_below_a_linked_folder_are_seen_by_all_commands(
    world: World, tmp_path: Path
) -> None:
    right = look(world).answers
    train = world.home.root / "stores/npz/toys/train"
    train.rename(tmp_path / "elsewhere")
    train.symlink_to(tmp_path / "elsewhere")
    assert look(world).answers == right
