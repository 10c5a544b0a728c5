import pytest
import torch
from torch import Tensor

from cacheclip.cli.options import settings_of
from cacheclip.errors import InputError, UsageError
from cacheclip.methods import base as methods
from cacheclip.methods.base import ClosedForm, Method, Params, Setting, Settings
from cacheclip.select import base as policies
from cacheclip.select.base import distance
from cacheclip.study.plan import Block, Cell, blocks
from cacheclip.study.race import Point, Race
from cacheclip.study.sentence import sentence
from cacheclip.study.settings import Choices, choices
from cacheclip.task import Query, Task


def chosen(*names: str) -> list[type[Method]]:
    return [methods.get(name) for name in names]


def plan(names: list[str], given: list[str], select: str = "fixed") -> list[Block]:
    found = chosen(*names)
    policy = policies.get(select)
    return blocks(found, [1, 4, 16], [1, 2, 3], policy, choices(settings_of(given), found), 100.0)


def test_a_setting_that_several_methods_have_must_be_scoped() -> None:
    both = chosen("tip-adapter", "clip-adapter")
    with pytest.raises(UsageError) as caught:
        choices({"alpha": 0.2}, both)
    assert "--set tip-adapter.alpha=0.2 --set clip-adapter.alpha=0.2" in caught.value.fix
    assert choices({"clip-adapter": {"alpha": [0.2, 0.4]}}, both)["clip-adapter"] == {
        "alpha": (0.2, 0.4)
    }
    assert choices({"alpha": 0.2}, both[:1])["tip-adapter"] == {"alpha": (0.2,)}


def test_of_many_methods_that_have_a_setting_three_are_spelled_out() -> None:
    with pytest.raises(UsageError) as caught:
        choices({"epochs": 2}, chosen("clap", "coop", "prolip", "zs-lp"))
    spelled = "--set clap.epochs=2 --set coop.epochs=2 --set prolip.epochs=2"
    assert caught.value.fix == f"{spelled}, and so for each that it is meant for"
    assert "clap, coop, prolip, zs-lp" in caught.value.where


@pytest.mark.parametrize(
    "text", ["alpha", "alpha=", "gamma=1", "linear-probe.C=1", "tip-adapter.lr=1"]
)
def test_a_setting_that_cannot_be_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        choices(settings_of([text]), chosen("tip-adapter"))


def test_a_value_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(InputError, match="whole number"):
        choices({"epochs": 2.5}, chosen("clip-adapter"))
    with pytest.raises(InputError, match="not a number"):
        choices({"alpha": "high"}, chosen("tip-adapter"))


@pytest.mark.parametrize(
    ("method", "text"),
    [
        *(("clip-adapter", t) for t in ("lr=inf", "alpha=nan", "alpha=1.5", "reduction=0")),
        *(("clip-adapter", t) for t in ("epochs=0", "optimizer=lion", "schedule=linear")),
        *(("linear-probe", t) for t in ("C=0", "C=-1")),
        ("tip-adapter", "beta=-1"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_before_any_work(method: str, text: str) -> None:
    with pytest.raises(InputError, match=text.partition("=")[0]):
        choices(settings_of([text]), chosen(method))


def test_a_value_counts_once_however_often_it_is_given() -> None:
    given = choices(settings_of(["alpha=1,1.0", "alpha=2"]), chosen("tip-adapter"))
    assert given["tip-adapter"] == {"alpha": (1.0, 2.0)}


def test_the_plan_counts_runs_and_stacks() -> None:
    names = ["zero-shot", "nearest-mean", "linear-probe", "tip-adapter", "clip-adapter"]
    said = sentence(plan(names, ["clip-adapter.alpha=0.2,0.4"]))
    assert said == (
        "46 runs: zero-shot 1; nearest-mean, linear-probe, tip-adapter 9 each (shots 1,4,16 x 3 "
        "seeds); clip-adapter 18 (x 2 settings); in 13 stacks"
    )


def test_static_settings_part_stacks_and_vector_settings_do_not() -> None:
    (one, *_) = plan(["clip-adapter"], ["alpha=0.1,0.2", "lr=1e-3,1e-2", "epochs=2,4"])
    assert [len(stack.variants) for stack in one.stacks] == [12, 12]
    assert {stack.static["epochs"] for stack in one.stacks} == {2, 4}


def test_fixed_makes_rows_and_fewshot_val_makes_candidates() -> None:
    (fixed, *_) = plan(["clip-adapter"], ["alpha=0.8,0.2"])
    assert [len(cell.candidates) for cell in fixed.cells] == [1] * 6
    (chosen_by_val, *_) = plan(["clip-adapter"], ["alpha=0.8,0.2"], "fewshot-val")
    assert [len(cell.candidates) for cell in chosen_by_val.cells] == [2] * 3
    # from nearest to zero-shot outwards, however they were given
    assert [c["alpha"] for c in chosen_by_val.cells[0].candidates] == [0.2, 0.8]


def test_fixed_constants_depend_on_the_shots() -> None:
    epochs = [block.cells[0].candidates[0]["epochs"] for block in plan(["clip-adapter"], [])]
    assert epochs == [50, 100, 200]


def test_constants_follow_the_settings_that_were_given() -> None:
    """A step of Adam does not scale as one of SGD does, so another optimizer has another lr."""
    found = chosen("clip-adapter")
    given = choices({"optimizer": ["sgd", "adamw"], "alpha": 0.2}, found)
    (block, *_) = blocks(found, [16], [1], policies.get("fixed"), given, 20.0)
    lr = {str(c.candidates[0]["optimizer"]): c.candidates[0]["lr"] for c in block.cells}
    assert lr == {"sgd": 2e-3 * 25, "adamw": 2e-3 * 5}
    pinned = choices({"optimizer": "adamw", "lr": 0.5}, found)
    (block, *_) = blocks(found, [16], [1], policies.get("fixed"), pinned, 20.0)
    assert block.cells[0].candidates[0]["lr"] == 0.5


def test_numbers_stand_before_words_from_the_smallest_up() -> None:
    (block, *_) = plan(["clip-adapter"], ["alpha=0.5,learned,0.2"], "fewshot-val")
    assert [c["alpha"] for c in block.cells[0].candidates] == [0.2, 0.5, "learned"]


def test_the_constants_stay_until_another_is_likelier_beyond_one_standard_error() -> None:
    policy = policies.get("fewshot-val")
    constant = torch.full((16,), -1.0)
    better = constant + torch.tensor([0.5, -0.1] * 8)  # 0.2 +- 0.08
    level = constant + torch.tensor([0.5, -0.4] * 8)  # 0.05 +- 0.12
    assert policy.best(torch.stack([level, constant]), 1) == 1
    assert policy.best(torch.stack([better, constant, level]), 1) == 0
    assert policy.best(torch.stack([constant, constant]), 1) == 1  # no tie moves them
    assert policy.best(torch.stack([better, better, constant]), 2) == 0  # nearest to zero-shot
    assert policy.best(torch.stack([better, constant])[:, :1], 1) == 1  # one picture proves nothing
    overflowed = torch.full_like(constant, torch.nan)
    assert policy.best(torch.stack([overflowed, better, constant]), 2) == 1
    zero_shot = constant + 0.01
    assert policy.best(torch.stack([zero_shot, constant]), 1, 0) == 0  # if likelier at all
    assert policy.best(torch.stack([zero_shot, constant, better]), 1, 0) == 2
    assert policy.best(torch.stack([zero_shot, constant])[:, :1], 1, 0) == 1
    ruled_out = torch.full((16,), -torch.inf)
    assert policy.best(torch.stack([ruled_out, constant, better]), 1) == 2


def test_a_gain_on_pictures_that_are_all_told_right_is_none() -> None:
    """The closest fit always gains something there, and always as much: no error bounds it."""
    policy = policies.get("fewshot-val")
    constant = torch.full((16,), -3e-6)
    closer = torch.full((16,), -1e-6)
    assert policy.best(torch.stack([constant, closer]), 0) == 0
    assert policy.best(torch.stack([constant, constant + 1e-3, closer]), 0) == 1


def test_settings_are_ordered_from_zero_shot_outwards_and_the_rest_from_the_constant() -> None:
    tip, probe = chosen("tip-adapter", "linear-probe")
    pairs = [{"alpha": a, "beta": b} for a in (2.0, 0.5) for b in (8.0, 1.0)]
    own = {"alpha": 1.0, "beta": 5.5}
    pairs.sort(key=lambda settings: distance(tip, dict(settings), dict(own)))
    assert [tuple(pair.values()) for pair in pairs] == [(0.5, 1), (0.5, 8), (2, 1), (2, 8)]
    values = sorted(
        (0.1, 32.0, 10.0, 100.0, 316.0), key=lambda C: distance(probe, {"C": C}, {"C": 100.0})
    )
    assert values == [100.0, 32.0, 316.0, 10.0, 0.1]


def test_an_unknown_policy_or_method_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"fewshot-val, fixed, .*full-val"):
        policies.get("hindsight")
    with pytest.raises(UsageError, match=r"did you mean tip-adapter or .*: cacheclip methods"):
        methods.get("tip_adapter")


def test_a_recipe_changes_the_methods_that_know_it_and_no_other() -> None:
    found = chosen("tip-adapter", "clip-adapter")
    given = choices({"clip-adapter": {"weight_decay": 0.1}}, found)
    made = {
        asked: blocks(found, [1], [1], policies.get("fixed"), given, 100.0, asked)
        for asked in (None, "as-code", "as-paper")
    }
    assert made["as-code"] == made[None]
    tip, clip = made["as-paper"]
    assert tip == made[None][0]
    assert (tip.recipe, made[None][1].recipe, clip.recipe) == (None, "as-code", "as-paper")
    (paper,), (code,) = clip.cells[0].candidates, made[None][1].cells[0].candidates
    assert (code["optimizer"], code["lr"]) == ("sgd", 2e-3)
    assert (paper["optimizer"], paper["lr"]) == ("adam", 1e-5)
    assert paper["weight_decay"] == 0.1  # what the user sets wins over any recipe


@pytest.mark.parametrize(
    ("names", "recipe", "fix"),
    [
        ("tip-adapter", "as-paper", "leave --recipe out"),
        ("clip-adapter", "x", "clip-adapter knows as-code, as-paper"),
    ],
)
def test_a_recipe_that_would_change_nothing_is_refused(names: str, recipe: str, fix: str) -> None:
    with pytest.raises(UsageError, match=recipe) as caught:
        blocks(chosen(names), [1], [1], policies.get("fixed"), {names: {}}, 100.0, recipe)
    assert fix in caught.value.fix


def test_a_learned_ratio_stands_beside_numbers_in_a_stack_of_its_own() -> None:
    (one, *_) = plan(["clip-adapter"], ["alpha=0.2,0.4,learned", "branch=text"])
    assert [len(stack.variants) for stack in one.stacks] == [6, 3]
    assert one.stacks[1].static["alpha"] == "learned"
    with pytest.raises(InputError, match="learned"):
        choices({"alpha": "learnt"}, chosen("clip-adapter"))
    with pytest.raises(InputError, match="image, text, both"):
        choices({"branch": "words"}, chosen("clip-adapter"))


class Stream(ClosedForm):
    """Learns from nothing and has a grid."""

    paper = "a toy of this test"
    learns = "nothing"
    table = {"alpha": Setting(2.0, 0.0, grid=(0.0, 2.0, 8.0), zero_shot="low")}

    def solve(self, task: Task) -> Params:
        raise NotImplementedError

    def logits(self, params: Params, query: Query) -> Tensor:
        raise NotImplementedError


def test_a_method_without_held_out_pictures_keeps_its_constants_under_every_policy() -> None:
    for name in policies.names():
        (block,) = blocks([Stream], [1, 4], [1, 2], policies.get(name), {Stream.name: {}}, 100.0)
        assert [cell.candidates for cell in block.cells] == [({"alpha": 2.0},)]
        assert block.policy.name == "fixed"
        asked: dict[str, Choices] = {Stream.name: {"alpha": (8.0, 0.0)}}  # a row each
        (block,) = blocks([Stream], [1, 4], [1, 2], policies.get(name), asked, 100.0)
        assert [cell.candidates for cell in block.cells] == [({"alpha": 0.0},), ({"alpha": 8.0},)]


def test_a_tie_goes_to_what_holds_back_most_whatever_the_order_given() -> None:
    class Held(Stream):
        table = {"penalty": Setting(0.1, 0.0, grid=(1.0, 0.1, 0.01), zero_shot="high")}

    policy = policies.get("fewshot-val")
    given: list[Choices] = [{}, {"penalty": (0.01, 1.0, 0.1)}]
    for own in given:
        tried = policy.candidates(Held, own, 4, 100.0)
        assert [settings["penalty"] for settings in tried] == [1.0, 0.1, 0.01]
        cell = Cell(1, tuple(tried), Held.fixed(4, 100.0))
        race = Race(Held, policy, cell)
        equal = torch.full((8,), -0.5)
        race.points = [Point(own, own.settings, 4, equal) for own in reversed(cell.variants)]
        ranking = race.ranking
        assert [point.settings for point in ranking.points] == tried
        assert ranking.best(policy).settings == cell.constant
        assert policy.best(ranking.log_p, 2) == 2


def test_a_grid_holds_the_constants_that_shots_decide() -> None:
    class Held(Stream):
        table = {"penalty": Setting(1.0, 0.0, grid=(1.0, 0.1, 0.01), power=2.0, zero_shot="high")}

        @classmethod
        def by_shots(cls, shots: int) -> Settings:
            return {"penalty": 1 / shots}

    policy = policies.get("fewshot-val")
    for scale, wanted in ((100.0, [1.0, 0.25, 0.1, 0.01]), (10.0, [0.01, 0.0025, 0.001, 0.0001])):
        tried = policy.candidates(Held, {}, 4, scale)
        assert [settings["penalty"] for settings in tried] == wanted
        assert Held.fixed(4, scale) in tried
