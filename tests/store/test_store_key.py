"""What decides a store, what does not, and what a key looks like."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cacheclip.store.key import (
    extract_command,
    files_sha256,
    image_key,
    key_digest,
    set_digest_of,
    text_key,
)
from cacheclip.store.reader import Store

if TYPE_CHECKING:
    from tests.store.conftest import Recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer", "pre-projection"),
        ("store_dtype", "float32"),
        ("compute", "float16"),
        ("dataset", "folder/other"),
        ("split", "val"),
        ("rows", 49),
        ("encoder", {"name": "nano", "quickgelu": True}),
    ],
)
def test_all_that_decides_the_vectors_is_in_the_key(
    recipe: "type[Recipe]", field: str, value: object
) -> None:
    changes: dict[str, Any] = {field: value}
    assert key_digest(recipe(**changes).key) != key_digest(recipe().key)


def test_how_it_is_written_and_where_is_not(recipe: "type[Recipe]") -> None:
    other = recipe(rows_per_shard=5, encode_batch=1, root="/elsewhere", failed=())
    assert key_digest(other.key) == key_digest(recipe().key)


def test_a_replaced_picture_gives_another_key(recipe: "type[Recipe]") -> None:
    made = recipe()
    stamps = ["1:1", *made.stamps[1:]]
    assert files_sha256(made.ids, stamps) != made.key["data"]["files_sha256"]
    assert files_sha256(made.ids, made.stamps) == made.key["data"]["files_sha256"]


def test_order_and_names_of_samples_count(recipe: "type[Recipe]") -> None:
    made = recipe()
    fields: dict[str, Any] = {
        "layer": "image",
        "encoder": made.encoder,
        "preprocess": {},
        "compute": {"dtype": "float32"},
        "store_dtype": "float16",
        "dataset": "digits",
        "split": "train",
    }
    orders = [made.ids, made.ids[::-1], ["renamed", *made.ids[1:]]]
    assert len({key_digest(image_key(**fields, ids=ids)) for ids in orders}) == 3


def test_splits_and_layers_of_one_encoder_are_one_set(recipe: "type[Recipe]") -> None:
    one = set_digest_of(recipe().key)
    assert set_digest_of(recipe(split="test", layer="pre-projection", rows=9).key) == one
    assert set_digest_of(recipe(compute="float16").key) != one
    assert set_digest_of(recipe(dataset="folder/other").key) != one


def test_a_layer_or_type_that_is_none_is_refused(recipe: "type[Recipe]") -> None:
    with pytest.raises(ValueError, match="no such layer"):
        _ = recipe(layer="imgae").key
    with pytest.raises(ValueError, match="bfloat16"):
        _ = recipe(store_dtype="bfloat16").key


def test_prompts_and_class_names_decide_a_text_store() -> None:
    def digest(names: list[str], word: str) -> str:
        prompts = [[f"{word} {name}"] for name in names]
        key = text_key(
            encoder={}, compute={}, prompts=prompts, classnames=names, template="picture"
        )
        return key_digest(key)

    assert len({digest(["a", "b"], "a"), digest(["b", "a"], "a"), digest(["a", "b"], "an")}) == 3


def test_a_key_can_be_read(store: Store) -> None:
    content = json.loads((store.path / "key.json").read_text())
    assert list(content) == ["format", "key", "digest", "info"]
    key = content["key"]
    assert (key["layer"], key["encoder"]["name"], key["data"]["id"], key["data"]["split"]) == (
        "image",
        "nano",
        "folder/pets",
        "train",
    )
    assert content["digest"] == key_digest(key) == store.digest
    assert store.path.name == "store"  # not even the folder's name has to fit


@pytest.mark.parametrize(
    ("dataset", "asked", "root", "line"),
    [
        ("food101", {}, None, "--dataset food101"),
        ("digits", {"model": "nano", "pretrained": None}, None, "--dataset digits --model nano"),
        (
            "coop/food101",
            {"model": "ViT-B-32", "pretrained": "my file.pt", "preprocess_from": "openai"},
            None,
            "--dataset coop/food101 --model ViT-B-32 --pretrained 'my file.pt' "
            "--preprocess-from openai",
        ),
        (
            "folder/birds",
            {"hash_files": True},
            "/my birds",
            "--dataset '/my birds' --name birds --hash-files",
        ),
        ("folder/birds", {"hash_files": False}, "/data/birds", "--dataset /data/birds"),
        ("clipart", {}, "/site-packages/clipart", "--dataset clipart"),
    ],
)
def test_the_command_that_makes_a_store(
    dataset: str, asked: dict[str, Any], root: str | None, line: str
) -> None:
    assert extract_command(dataset, asked, root=root) == f"cacheclip extract {line}"


def test_a_store_knows_how_it_was_asked_for(tmp_path: Path, recipe: "type[Recipe]") -> None:
    """Not as its key says: a checkpoint is a file there, by name, and a folder has no place."""
    made = recipe(asked={"model": "ViT-B-32", "pretrained": "/weights/a.pt", "device": "cpu"})
    with made.writer(tmp_path / "s") as writer:
        made.fill(writer)
        assert writer.finish().extract_command == (
            "cacheclip extract --dataset /data/pets --model ViT-B-32 "
            "--pretrained /weights/a.pt --device cpu"
        )


@pytest.mark.parametrize(
    ("module", "loaded"), [("cacheclip.store.home", False), ("PIL.Image", True)]
)
def test_the_store_loads_neither_torch_nor_pillow(module: str, loaded: bool) -> None:
    """The second module shows that the test can fail."""
    code = f"""
import importlib, sys
importlib.import_module({module!r})
for name in ("writer", "text", "labels", "about", "inventory"):
    importlib.import_module(f"cacheclip.store.{{name}}")
print(any(name in sys.modules for name in ("torch", "PIL", "triton", "open_clip")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)
