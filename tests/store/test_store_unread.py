"""What cannot be read is not taken for what is not there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from cacheclip.errors import StoreError
from cacheclip.files.disk import sealed
from cacheclip.store import hdf5
from cacheclip.store.home import Home
from cacheclip.store.inventory import inventory
from cacheclip.store.key import key_digest
from cacheclip.store.overview import overview
from cacheclip.store.schema import Failure

if TYPE_CHECKING:
    from tests.store.conftest import Builder, Recipe

COMMAND = "cacheclip extract --dataset /data/pets --model nano --pretrained v1"


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Forbid looking into a folder, to root too."""
    real = os.scandir

    def close(folder: Path) -> None:
        def scandir(path: Any) -> Any:
            if Path(path) == folder:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return close


@pytest.mark.parametrize("below", ["", "folder", "folder/pets", "folder/pets/train"])
def test_a_closed_folder_is_named(
    build: "Builder", home: Home, close: Callable[[Path], None], below: str
) -> None:
    build.extract(dataset="digits", root=None)
    build.extract()
    folder = home.root / "stores" / below
    close(folder)
    reads: list[Callable[[], object]] = [home.find, *([] if below else [home.datasets])]
    for read in reads:
        with pytest.raises(StoreError, match="no permission to look into") as caught:
            read()
        assert caught.value.where == str(folder)
        assert caught.value.fix.startswith("chmod u+rwx ")
    if below:
        assert home.find("digits").dataset == "digits"
        assert any(line.startswith(f"{folder}: ") for line in overview(home).problems)


def test_a_text_key_that_cannot_be_read_does_not_make_a_set_without_text(
    build: "Builder", home: Home
) -> None:
    build.extract(template="a drawing of a {}.")
    build.extract()
    found = home.find().text
    assert found is not None
    file = found.path / "key.json"
    for text in ("{", None):
        file.unlink() if text is None else file.write_text(text)
        with pytest.raises(StoreError) as caught:
            home.find()
        assert caught.value.where == str(file)
        assert caught.value.fix.endswith(COMMAND)
        assert caught.value.fix.startswith(f"rm {file} && " if text else "cacheclip ")
        assert any(line.startswith(f"{file}: ") for line in overview(home).problems)


def test_a_set_all_of_whose_keys_are_lost_does_not_give_way_to_another(
    build: "Builder", home: Home
) -> None:
    build.extract(dataset="digits", root=None)
    build.extract()
    for file in home.root.glob("stores/folder/pets/t*/*/key.json"):
        file.write_text("")
    with pytest.raises(StoreError, match="not JSON") as caught:
        home.find()
    assert caught.value.fix.endswith(f" && {COMMAND}")  # as the log tells it


def test_what_a_key_says_of_its_making_may_be_wrong_and_is_said(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    build.extract()
    file = recipe().path(home) / "key.json"
    file.write_text(file.read_text().replace("/data/pets", "/dada/pets"))
    found = home.find()
    assert found.extract_command == COMMAND  # of the other split
    assert found.notices[-1].startswith(f"{file}: what it says of its making is not as")
    build.extract()
    assert not any("making" in line for line in home.find().notices)


CHANGES: list[dict[str, Any]] = [
    {"encode_batch": 9},
    {"encode_batch": 0},
    {"encode_batch": True},
    {"rows_per_shard": 1.5},
    {"rows_per_shard": 10**12},
    {"rows": 5},
    {"format": 2},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_plan_that_was_changed_is_named_by_every_reader(
    recipe: "type[Recipe]", home: Home, changes: dict[str, Any]
) -> None:
    made = recipe()
    made.write(made.path(home), shards=2)
    file = made.path(home) / "plan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(StoreError, match="not the plan"), made.writer(file.parent):
        pytest.fail("went on by another plan")
    with pytest.raises(StoreError, match="not the plan") as caught:
        home.find()
    assert caught.value.fix == f"rm {file} && {COMMAND}"
    (entry,) = inventory(home)
    assert (entry.shards_done, entry.path) == (2, str(file.parent))
    assert any(line.startswith(f"{file}: ") for line in overview(home).problems)
    file.unlink()
    made.write(file.parent)


def test_a_plan_without_a_digest_is_read_as_before(recipe: "type[Recipe]", home: Home) -> None:
    made = recipe()
    made.write(made.path(home), shards=2)
    file = made.path(home) / "plan.json"
    content = json.loads(file.read_text())
    del content["digest"]
    file.write_text(json.dumps(content))
    store = recipe(encode_batch=3).write(file.parent)
    assert store is not None
    assert "digest" not in json.loads(file.read_text())


def test_a_damaged_record_of_a_shard_is_made_anew_from_it(
    recipe: "type[Recipe]", home: Home
) -> None:
    made = recipe()
    made.write(made.path(home))
    file = made.path(home) / "done/00001.json"
    whole = file.read_text()
    (made.path(home) / "done.json").unlink()
    file.write_text(whole.replace('"failed": 0', '"failed": 1'))
    with made.writer(made.path(home)) as writer:
        assert (writer.missing, writer.renewed) == ([], 1)
        writer.finish().load()
    assert file.read_text() == whole


def test_layers_that_disagree_make_a_row_bad(
    build: "Builder", recipe: "type[Recipe]", home: Home
) -> None:
    """As a kill between the layers of a retry leaves them."""
    build.extract(failed=(3,))
    build.store(recipe(layer="pre-projection", failed=(3, 7)))
    assert sorted(home.find().failures("train")) == [3, 7]
    assert home.find().failures("train")[3] == Failure(3, "decode", "broken after 3 bytes")
    assert home.find().failures("test") == {}


def links(file: h5py.File, other: Path) -> None:
    file["features"] = h5py.ExternalLink(str(other), "features")


def soft(file: h5py.File, other: Path) -> None:
    file.create_dataset("other", data=np.ones((4, 2), np.float16), fletcher32=True)
    file["features"] = h5py.SoftLink("/other")


def outside(file: h5py.File, other: Path) -> None:
    other.write_bytes(bytes(16))
    file.create_dataset("features", (4, 2), np.float16, external=[(str(other), 0, 16)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((4, 2), np.float16)
    layout[:] = h5py.VirtualSource(str(other), "features", (4, 2), np.float16)
    file.create_virtual_dataset("features", layout)


def packed(file: h5py.File, other: Path) -> None:
    file.create_dataset("features", (4, 2), np.float16, compression="gzip", fletcher32=True)


def huge(file: h5py.File, other: Path) -> None:
    file.create_dataset("features", (4 * 10**9, 2), np.float16, chunks=(1024, 2), fletcher32=True)


@pytest.mark.parametrize("make", [links, soft, outside, virtual, packed, huge])
def test_vectors_that_do_not_lie_in_their_own_file_are_refused(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(tmp_path / "shard.h5", "w") as file:
        make(file, tmp_path / "other")
    with (
        pytest.raises(StoreError, match="damaged: features ") as caught,
        hdf5.checked(tmp_path / "shard.h5", "cacheclip extract") as file,
    ):
        hdf5.expected(file, "features", "float16", (-1, 2))
    assert caught.value.fix == f"rm {tmp_path / 'shard.h5'} && cacheclip extract"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids.h5")
    with (
        pytest.raises(StoreError, match="not a regular file"),
        hdf5.checked(tmp_path / "ids.h5", "cacheclip extract"),
    ):
        pytest.fail("opened a pipe")


@pytest.mark.parametrize(("name", "value"), [("norm", 0), ("norm", np.inf), ("ok", 2), ("ok", 0)])
def test_a_row_is_good_if_and_only_if_it_has_a_vector(
    tmp_path: Path,
    recipe: "type[Recipe]",
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: float,
) -> None:
    real = hdf5.file_image

    def tampered(arrays: dict[str, Any], attributes: dict[str, int | str]) -> bytes:
        if "features" in arrays:
            arrays = {**arrays, name: arrays[name].copy()}
            arrays[name][1] = value
        return real(arrays, attributes)

    monkeypatch.setattr(hdf5, "file_image", tampered)
    store = recipe(failed=()).write(tmp_path / "s")
    assert store is not None
    with pytest.raises(StoreError, match="row 1 is marked for what it is not"):
        store.load()


def test_a_crafted_key_is_refused(build: "Builder", recipe: "type[Recipe]", home: Home) -> None:
    build.extract()
    file = recipe().path(home) / "key.json"
    content = json.loads(file.read_text())
    for part in ("encoder", "layer", "data", "store"):
        key = {name: value for name, value in content["key"].items() if name != part}
        file.write_text(json.dumps(content | {"key": key, "digest": key_digest(key)}))
        with pytest.raises(StoreError) as caught:
            home.find()
        assert caught.value.where == str(file)


def test_lines_of_the_log_that_are_none_are_left_out_and_said(build: "Builder", home: Home) -> None:
    digest = build.extract()
    log = home.root / "extractions.jsonl"
    line = json.loads(log.read_text())
    foreign = sealed({**line, "set": 5})
    lines = [b"\xff\xfe", b"{", json.dumps(foreign).encode(), b"[1]", b"null"]
    flipped = json.dumps({**line, "set": "0" * 64}).encode()
    log.write_bytes(log.read_bytes() + b"\n".join([*lines, flipped]) + b"\n")
    found = home.find()
    assert found.digest == digest
    assert found.notices[-1] == "extractions.jsonl: 6 lines cannot be read and are left out"
    assert overview(home).problems == [found.notices[-1]]


def test_a_file_that_memory_does_not_hold_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shard.h5").write_bytes(hdf5.file_image({"norm": np.ones(4, np.float32)}, {}))

    def none_left(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(h5py.Dataset, "__getitem__", none_left)
    with (
        pytest.raises(StoreError, match="no memory left") as caught,
        hdf5.checked(tmp_path / "shard.h5", "cacheclip extract") as file,
    ):
        hdf5.read(file, "norm", "float32", (4,))
    assert "rm " not in caught.value.fix


@pytest.mark.parametrize("ours", [ValueError, MemoryError, KeyError, FileNotFoundError])
def test_a_fault_of_whoever_reads_does_not_make_the_file_damaged(
    tmp_path: Path, ours: type[Exception]
) -> None:
    (tmp_path / "shard.h5").write_bytes(hdf5.file_image({"norm": np.ones(4, np.float32)}, {}))
    with pytest.raises(ours), hdf5.checked(tmp_path / "shard.h5", "cacheclip extract"):
        raise ours("a bug")
