"""What is kept of an encoder reaches the methods that read it; the others run without."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cacheclip.errors import StoreError
from cacheclip.methods.coop import Coop
from cacheclip.methods.prolip import Prolip
from cacheclip.methods.task_res import TaskRes
from cacheclip.store.features import FeatureSet
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, parts_key
from cacheclip.store.parts import write_parts
from cacheclip.store.schema import ENCODER, TOKENS, TOWER
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from tests.methods.tasks import END, WIDTH, frozen, normal

DIM = 16  # of the pictures' features


def keep(
    home: Home, kind: str, arrays: Mapping[str, NDArray[Any]], names: list[str] | None = None
) -> None:
    found = home.find()
    key = parts_key(
        kind,
        encoder=found.encoder,
        compute=found.compute,
        names=list(arrays),
        classnames=names,
        spoken=names or (),
    )
    write_parts(home.part_path(found.dataset, kind, key_digest(key)), key, arrays, {}, home.option)


def tower() -> dict[str, torch.Tensor]:
    own: dict[str, torch.Tensor] = frozen(torch.float32)["tower"]
    return own | {"text_projection": normal((WIDTH, DIM), 5, torch.float32)}


def with_tower(home: Home) -> FeatureSet:
    keep(home, TOWER, {f"tower.{name}": x.numpy() for name, x in tower().items()})
    names = list(home.find().labels.classnames)
    rows = np.array([[1, 2 + c, END] for c in range(len(names))])
    keep(home, TOKENS, {"tokens": rows}, names)
    return home.find()


def data_of(features: FeatureSet) -> SetData:
    return SetData(features, torch.device("cpu"), 10**9)


def test_a_method_without_its_parts_is_left_out_and_says_what_makes_them(home: Home) -> None:
    found = home.find()
    asked = Request(("task-res", "coop", "prolip", "kgcoop"), (2,), (1,))
    able = Comparison(asked, found)
    assert "task-res" in {block.method.name for block in able.blocks}
    coop, prolip = able.refusals
    assert coop.startswith("coop, kgcoop do not run: there is no part tower of the encoder; cachec")
    assert coop.endswith("--layers text-tower")
    assert prolip.startswith("prolip does not run: there are no pre-projection features of split")
    with pytest.raises(StoreError, match="coop: there is no part tower of the encoder") as error:
        Comparison(Request(("coop",), (2,), (1,)), found)
    assert "--layers text-tower" in error.value.fix


def test_tower_and_tokens_reach_the_task_and_stand_in_the_row(home: Home) -> None:
    data = data_of(with_tower(home))
    assert data.lacking(Coop.reads) is None
    task = data.task(Coop, [data.draw(2, 1)], [Coop.fixed(2, 100.0)])
    for name, x in tower().items():
        assert torch.equal(task.encoder["tower"][name], x)
    assert task.text["tokens"].tolist() == [[1, 2 + c, END] for c in range(4)]
    assert set(data.stores(Coop.reads, ["train"])) == {"train/image", "tokens", "tower"}
    assert set(data.stores(TaskRes.reads, ["train"])) == {"train/image", "text"}
    assert data.lacking(Prolip.reads) is not None


@pytest.mark.parametrize("method", ["coop", "kgcoop", "cocoop"])
def test_a_method_of_the_text_tower_runs_from_the_stores(home: Home, method: str) -> None:
    asked = Request((method,), (2,), (1,), "fixed", {"epochs": 2})
    comparison = Comparison(asked, with_tower(home))
    rows = [row for _, row in comparison.run() if row.method == method]
    assert [row.error for row in rows] == [None]
    assert {"tokens", "tower"} <= set(rows[0].stores)


def test_the_text_twin_runs_from_the_last_map_of_the_text_tower(home: Home) -> None:
    keep(home, ENCODER, {"text-projection": normal((DIM, DIM), 6, torch.float32).numpy()})
    asked = Request(("prolip-text",), (2,), (1,), "fixed", {"epochs": 2})
    comparison = Comparison(asked, home.find())
    rows = [row for _, row in comparison.run() if row.method == "prolip-text"]
    assert [row.error for row in rows] == [None]
    assert {"text", "text-projection"} <= set(rows[0].stores)


def test_a_step_is_chosen_where_the_release_looks(home: Home) -> None:
    """Among held-out pictures after each hundred steps, here three times."""
    asked = Request(("cross-modal",), (2,), (1,), "fewshot-val", {"epochs": 3, "stop": "search"})
    comparison = Comparison(asked, home.find())
    (row,) = (row for _, row in comparison.run() if row.method == "cross-modal")
    assert row.error is None
    assert row.hparams["stop"] == "search"


def test_methods_that_lack_different_things_are_told_of_one_command(home: Home) -> None:
    with pytest.raises(StoreError, match="calip: there are no patches") as error:
        Comparison(Request(("coop", "calip", "cupl"), (2,), (1,)), home.find())
    first, _, command = error.value.fix.partition("then: ")
    assert first.startswith("write FILE.json")
    assert command.endswith("--layers text-tower,patches --sentences FILE.json")
    assert error.value.fix.count("cacheclip") == 1
