"""Parts of an encoder: what is written is what is read, for the sets that are by that encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cacheclip.errors import StoreError
from cacheclip.store.home import Home
from cacheclip.store.inventory import inventory
from cacheclip.store.key import key_digest, parts_key
from cacheclip.store.overview import overview
from cacheclip.store.parts import PartStore, write_parts
from cacheclip.store.prune import unused
from cacheclip.store.remove import parts_of, remove
from cacheclip.store.schema import ENCODER, PARTS_FILE, TOKENS
from tests.store.conftest import CLASSNAMES, ENCODER as NANO

if TYPE_CHECKING:
    from tests.store.conftest import Builder

THIRDS = np.arange(12, dtype=np.float32).reshape(3, 4) / 3
PARTS = {"projection": THIRDS, "projection-bias": np.array([0.5, -2], np.float32)}
WORDS = {"tokens": np.array([[1, 7, 2], [1, 9, 2], [1, 8, 2]])}


def keep(
    home: Home,
    kind: str = ENCODER,
    arrays: dict[str, Any] = PARTS,
    encoder: dict[str, Any] = NANO,
    **of: Any,
) -> PartStore:
    key = parts_key(kind, encoder=encoder, compute={"dtype": "float32"}, names=list(arrays), **of)
    path = home.part_path("folder/pets", kind, key_digest(key))
    info = {"dataset": "folder/pets", "root": "/data/pets"}
    return write_parts(path, key, arrays, info, home.option)


def test_arrays_come_back_bit_for_bit_and_small_where_that_loses_nothing(home: Home) -> None:
    store = keep(home, arrays={**PARTS, "heads": np.array([8])})
    for name, array in store.load().items():
        want = {**PARTS, "heads": np.array([8])}[name]
        np.testing.assert_array_equal(array, want, strict=True)
    square = np.ones((300, 300), np.float32)
    whole = keep(home, arrays={"projection": square / 3}).record.bytes
    half = keep(home, arrays={"projection": square, "projection-bias": THIRDS}).record.bytes
    assert half < 0.6 * whole


def test_what_is_there_stays_and_what_is_lost_is_written_anew(home: Home) -> None:
    store = keep(home)
    whole = {name: (store.path / name).read_bytes() for name in (PARTS_FILE, "done.json")}
    for name in whole:
        (store.path / name).unlink()
        with pytest.raises(StoreError) as caught:
            PartStore.open(store.path)
        assert caught.value.fix.startswith("cacheclip extract --dataset /data/pets")
        keep(home)
        assert {own: (store.path / own).read_bytes() for own in whole} == whole


def test_a_set_gives_the_parts_of_its_own_encoder_and_class_names(
    build: "Builder", home: Home
) -> None:
    build.extract()
    keep(home, encoder=NANO | {"name": "other"})
    with pytest.raises(StoreError, match="no part projection") as caught:
        home.find().part("projection")
    assert caught.value.fix == (
        "cacheclip extract --dataset /data/pets --model nano --pretrained v1"
    )
    keep(home)
    keep(home, TOKENS, {"tokens": np.zeros((3, 2), np.int64)}, classnames=["x", "y", "z"])
    features = home.find()
    np.testing.assert_array_equal(features.part("projection")["projection"], THIRDS)
    with pytest.raises(StoreError, match="this encoder has no text-projection"):
        features.part("text-projection")
    for name in ("tokens", "tower"):
        with pytest.raises(StoreError, match="no part") as caught:
            features.part(name)
        assert caught.value.fix.endswith("--layers text-tower")
    keep(home, TOKENS, WORDS, classnames=CLASSNAMES)
    np.testing.assert_array_equal(home.find().part("tokens")["tokens"], WORDS["tokens"])


def test_a_part_of_many_arrays_comes_under_their_own_names(build: "Builder", home: Home) -> None:
    build.extract()
    keep(home, "text-tower", {"tower.heads": np.array([2]), "tower.ln.bias": THIRDS})
    assert set(home.find().part("tower")) == {"heads", "ln.bias"}


@pytest.mark.parametrize("file", [PARTS_FILE, "done.json", "key.json"])
def test_damage_is_named_by_whoever_reads_the_part_and_by_nobody_else(
    build: "Builder", home: Home, file: str
) -> None:
    build.extract()
    path = keep(home).path / file
    path.write_bytes(path.read_bytes()[:-20])
    features = home.find()
    assert features.store("train").load().ok.any()
    with pytest.raises(StoreError) as caught:
        features.part("projection")
    assert caught.value.where == str(path)
    assert caught.value.fix.startswith(f"rm {path} && cacheclip extract --dataset /data/pets")


def test_parts_are_listed_and_go_with_their_encoder(build: "Builder", home: Home) -> None:
    build.extract()
    mine, other = keep(home), keep(home, encoder=NANO | {"name": "other"})
    old = keep(home, TOKENS, WORDS, classnames=["x", "y", "z"])
    assert overview(home).lines[0].layers == ("image", "text", "encoder", "tokens")
    entries = {Path(entry.path): entry for entry in inventory(home)}
    assert (entries[mine.path].layer, entries[mine.path].rows) == (ENCODER, 2)
    spare = unused(home)
    assert {part.path: part.why for part in spare} == {
        other.path: "encoder of no set",
        old.path: "encoder of no set",
    }
    remove(home, spare)
    assert not other.path.exists()
    assert home.find().part("projection")
    remove(home, parts_of(home, "folder/pets"))
    assert not mine.path.exists()
