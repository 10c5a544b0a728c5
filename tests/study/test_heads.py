"""Variants and what they learned are cut together, and what they share stays one copy."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from cacheclip.methods.base import ClosedForm, Params, Setting, Settings
from cacheclip.methods.nearest_mean import NearestMean
from cacheclip.methods.tip_adapter import TipAdapter
from cacheclip.select import base as policies
from cacheclip.store.home import Home
from cacheclip.study.data import SetData
from cacheclip.study.heads import Heads, fit, together
from cacheclip.study.plan import Block, Cell, Variant
from cacheclip.study.run import run
from cacheclip.task import Query, Task

TEXT = torch.arange(6.0).view(2, 3)  # [C, D]


def heads(sizes: Sequence[int], spoilt: int | None = None) -> Heads:
    """As many variants a cell as `sizes` says, in turn a candidate of each cell; one text."""
    cells = [
        Cell(seed, tuple({"alpha": float(k)} for k in range(n)), {"alpha": 0.0})
        for seed, n in enumerate(sizes)
    ]
    places = [(k, c) for c, cell in enumerate(cells) for k in range(len(cell.candidates))]
    variants = [cells[c].variants[k] for k, c in sorted(places)]
    V = len(variants)
    params = {"weight": TEXT.expand(V, 2, 3), "keys": torch.arange(4.0 * V).view(V, 4)}
    if spoilt is not None:
        params["keys"][spoilt, 1] = torch.nan
    params["alpha"] = torch.tensor([float(v.settings["alpha"]) for v in variants])
    return Heads.of(TipAdapter(), variants, params, None)


def keys_of(own: Heads) -> list[float]:
    return own.params["keys"][:, 0].tolist()


def test_a_cut_takes_variants_and_params_together_and_copies_no_shared_text() -> None:
    whole = heads([2, 3])
    assert whole.shared == {"weight"}
    for own, numbers in (
        (whole.where(torch.tensor([False, True, False, False, True])), [1, 4]),
        (whole.part(1, 3), [1, 2]),
        (whole.one(3), [3]),
    ):
        assert own.variants == tuple(whole.variants[v] for v in numbers)
        assert keys_of(own) == [4.0 * v for v in numbers]
        assert own.params["weight"].shape == (len(numbers), 2, 3)
        assert own.params["weight"].data_ptr() == TEXT.data_ptr()
    assert whole.where(torch.ones(5, dtype=torch.bool)) is whole


def test_one_variant_keeps_the_memory_of_no_other_alive() -> None:
    one = heads([4]).one(2)
    assert one.params["keys"].untyped_storage().nbytes() == 4 * 4
    assert one.settings == {"alpha": 2.0}


def test_the_variants_of_a_cell_find_together_wherever_they_stand() -> None:
    whole = heads([2, 3, 1])
    rivals = list(whole.by_cell())
    assert [{v.cell.seed for v in own.variants} for own in rivals] == [{0}, {1}, {2}]
    assert [[v.settings["alpha"] for v in own.variants] for own in rivals] == [
        [0.0, 1.0],
        [0.0, 1.0, 2.0],
        [0.0],
    ]
    assert all(
        keys_of(own) == [4.0 * whole.variants.index(v) for v in own.variants] for own in rivals
    )


def test_what_is_cut_and_joined_again_is_what_it_was() -> None:
    whole = heads([2, 2])
    again = Heads.cat([whole.one(v) for v in range(4)])
    assert again.variants == whole.variants
    assert again.shared == whole.shared
    assert all(torch.equal(again.params[name], x) for name, x in whole.params.items())
    assert again.params["weight"].data_ptr() == TEXT.data_ptr()
    other = heads([1, 1])
    other.params["weight"] = other.params["weight"] + 1  # a text of its own
    joined = Heads.cat([whole, Heads.of(other.method, other.variants, other.params, None)])
    assert joined.shared == frozenset()
    assert torch.equal(joined.params["weight"][3], TEXT)
    assert torch.equal(joined.params["weight"][4], TEXT + 1)


def test_together_is_what_shares_a_stack_and_fits() -> None:
    one, other = heads([1, 1, 1]), heads([1, 1])
    singles = [one.one(0), other.one(0), one.one(1), other.one(1), one.one(2)]
    limit = 2 * sum(x.numel() * x.element_size() for x in singles[0].params.values())
    groups = list(together(singles, limit))
    assert [len(own.variants) for own in groups] == [2, 1, 2]
    assert [own.method for own in groups] == [one.method, one.method, other.method]


def test_a_variant_that_is_not_finite_is_known() -> None:
    assert heads([3], spoilt=1).finite().tolist() == [True, False, True]


def test_what_a_search_found_stands_in_settings_and_params() -> None:
    one = heads([3]).one(1)
    settled = one.settled({"alpha": 2.5})
    assert settled.settings == {"alpha": 2.5}
    assert settled.params["alpha"].tolist() == [2.5]
    assert (one.settings, one.params["alpha"].tolist()) == ({"alpha": 1.0}, [1.0])
    assert settled.params["keys"] is one.params["keys"]


def test_rates_that_are_equal_stand_side_by_side_in_a_stack() -> None:
    candidates: tuple[dict[str, Any], ...] = tuple({"lr": lr} for lr in (0.1, 0.2))
    cells = tuple(Cell(seed, candidates, candidates[0]) for seed in (1, 2))
    (stack,) = Block(NearestMean, 4, policies.get("fixed"), cells).stacks
    assert [(v.settings["lr"], v.seed) for v in stack.variants] == [
        *((0.1, seed) for seed in (1, 2)),
        *((0.2, seed) for seed in (1, 2)),
    ]


class Centred(ClosedForm):
    """Nearest mean whose head is made of the sums it learned and of the classes of a task."""

    paper = "none"
    table = {"alpha": Setting(1.0, grid=(0.5, 1.0, 2.0))}

    def solve(self, task: Task) -> Params:
        one_hot = torch.nn.functional.one_hot(task.labels, task.n_classes).float()
        return {"sums": one_hot.mT @ task.support()["image"], "alpha": task.settings["alpha"]}

    def head(self, params: Params, task: Task) -> Params:
        assert task.variants == len(params["sums"])
        return {"weight": params["sums"] * task.settings["alpha"][:, None, None]}

    def logits(self, params: Params, query: Query) -> torch.Tensor:
        return query["image"] @ params["weight"].mT


@pytest.mark.parametrize("select", ["fixed", "fewshot-val"])
def test_what_is_validated_scored_and_kept_is_the_head(select: str, home: Home) -> None:
    data = SetData(home.find(), torch.device("cpu"), 10**8)
    asked = Centred.fixed(4, 50.0)
    rivals: tuple[Settings, ...] = ({"alpha": 0.5}, {"alpha": 1.0})
    own = rivals if select == "fewshot-val" else (asked,)
    cells = tuple(Cell(seed, own, asked, data.draw(4, seed)) for seed in (1, 2))
    block = Block(Centred, 4, policies.get(select), cells)
    (outcomes,) = run([block], data, lambda share: None, lambda text: None)
    for outcome, cell in zip(outcomes, cells, strict=True):
        assert isinstance(outcome.result, Heads)
        assert set(outcome.result.params) == {"weight"}
        (alone,) = fit(Centred(), [Variant(cell, outcome.result.settings, outcome.draw)], data)
        weight = alone.params["sums"] * float(outcome.result.settings["alpha"])
        assert torch.equal(outcome.result.params["weight"], weight)
        logits = data.test_query(Centred())["image"] @ weight[0].mT
        assert outcome.scores
        assert outcome.scores.predicted[0].tolist() == logits.argmax(-1).tolist()
