"""Text features: what is written is what is read, and only once."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cacheclip.errors import StoreError
from cacheclip.store.key import text_key
from cacheclip.store.reader import IncompleteStoreError
from cacheclip.store.text import TextStore, write_text_store

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe


@pytest.fixture
def text(build: "Builder", recipe: "type[Recipe]") -> TextStore:
    return build.text(recipe())


def test_every_prompt_comes_back_raw(text: TextStore) -> None:
    features = np.random.default_rng(1).standard_normal((3, 2, 24), np.float32)
    np.testing.assert_array_equal(text.load(), features.astype(np.float16).astype(np.float32))
    assert text.classnames == ["cat", "dog", "wren"]
    assert text.prompts[2] == ["a photo of a wren.", "wren!"]
    assert text.template == "a photo of a {}."


def test_a_text_store_that_is_there_stays(
    build: "Builder", recipe: "type[Recipe]", text: TextStore
) -> None:
    before = (text.path / "text.h5").stat()
    build.text(recipe())
    after = (text.path / "text.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_text_store_that_lost_its_file_or_record_is_written_anew(
    build: "Builder", recipe: "type[Recipe]", text: TextStore
) -> None:
    whole = {name: (text.path / name).read_bytes() for name in ("text.h5", "done.json")}
    for name in whole:
        (text.path / name).unlink()
        expected = StoreError if name == "text.h5" else IncompleteStoreError
        with pytest.raises(expected) as caught:
            TextStore.open(text.path)
        assert (
            caught.value.fix
            == "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
        )
        build.text(recipe())
        assert {own: (text.path / own).read_bytes() for own in whole} == whole


def test_a_truncated_file_is_named(text: TextStore) -> None:
    file = text.path / "text.h5"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="bytes, not") as caught:
        TextStore.open(text.path)
    assert caught.value.fix.startswith(f"rm {file} && cacheclip extract")


def test_a_vector_that_does_not_fit_is_refused_by_its_prompt(
    build: "Builder", recipe: "type[Recipe]"
) -> None:
    names, prompts = ["a", "b"], [["an a"], ["a b"]]
    key = text_key(
        encoder=recipe().encoder, compute={}, prompts=prompts, classnames=names, template="t"
    )
    features = np.ones((2, 1, 4), np.float32)
    features[1] = np.nan
    path = build.home.text_path("digits", "0" * 64)
    with pytest.raises(StoreError, match="not finite for 1 of 2 prompts") as caught:
        write_text_store(path, key, per_prompt=features, classnames=names, prompts=prompts, info={})
    assert "prompt 'a b'" in caught.value.where
    assert not path.exists()


def test_classes_may_have_different_counts_of_prompts(
    recipe: "type[Recipe]", tmp_path: Path
) -> None:
    prompts = [["a cat"], ["a dog", "one dog", ""], ["a wren", "one wren"]]
    key = text_key(
        encoder=recipe().encoder,
        compute={"dtype": "float32"},
        prompts=prompts,
        classnames=["cat", "dog", "wren"],
        template="mine.json",
    )
    features = np.random.default_rng(1).standard_normal((3, 3, 24), np.float32)
    features[2, 2] = np.nan  # where no prompt is, nothing counts
    store = write_text_store(
        tmp_path / "text",
        key,
        per_prompt=features,
        classnames=["cat", "dog", "wren"],
        prompts=prompts,
        info={},
    )
    loaded = store.load()
    there = np.array([[True, False, False], [True, True, True], [True, True, False]])
    np.testing.assert_allclose(loaded[there], features[there], rtol=1e-3, atol=1e-3)
    assert not loaded[~there].any()
    assert key["text"]["prompts"] == 3

    features[0, 0] = 0  # a prompt without a vector is still refused
    with pytest.raises(StoreError, match="for 1 of 6 prompts"):
        write_text_store(
            tmp_path / "other",
            key,
            per_prompt=features,
            classnames=["cat", "dog", "wren"],
            prompts=prompts,
            info={},
        )
