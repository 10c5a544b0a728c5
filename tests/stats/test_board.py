"""Which rows of a log are compared, under which names, and what is said where they lack."""

from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import StoreError, UsageError
from cacheclip.files.disk import publish_json
from cacheclip.results import Row
from cacheclip.stats.averages import by_dataset, over_datasets
from cacheclip.stats.board import board
from cacheclip.stats.comparable import Wanted
from cacheclip.stats.trials import Trial
from tests.stats.logs import log, row, zero_shot


def test_what_draws_nothing_meets_the_others_in_every_trial_of_its_data_set(tmp_path: Path) -> None:
    rows = [row(shots=k, seed=s) for k in (1, 16) for s in (1, 2)]
    log(tmp_path, [zero_shot(), *rows, row(dataset="cars")])
    found = board(tmp_path)
    assert [*found.rows["zero-shot"]] == [Trial("birds", k, s) for k in (1, 16) for s in (1, 2)]
    assert found.common() == [*found.rows["zero-shot"]]
    assert found.names == ["zero-shot", "gda"]


def test_a_stream_without_shots_meets_the_others_seed_by_seed(tmp_path: Path) -> None:
    streams = [zero_shot(method="tda", seed=s, top1_test=s / 10) for s in (1, 2)]
    alone = board(log(tmp_path / "a", [zero_shot(), *streams]))
    assert alone.common() == [Trial("birds", 0, 1), Trial("birds", 0, 2)]
    drawn = board(log(tmp_path / "b", [*streams, row(seed=2)]))
    assert drawn.top1("tda", Trial("birds", 4, 2)) == 0.2


def test_names_hold_what_tells_contenders_apart_and_nothing_else(tmp_path: Path) -> None:
    log(
        tmp_path,
        [
            row(method="clap", hparams={"lr": 1.0}),
            *(row(hparams={"alpha": a, "eps": 1}, constants=a == 1) for a in (0.1, 1.0)),
            row(hparams={"alpha": 9.0, "eps": 1}, select="fewshot-val"),
            row(method="clip-adapter", recipe="as-code"),
            row(method="clip-adapter", recipe="as-paper"),
        ],
    )
    found = board(tmp_path)
    assert found.names == [
        "clap",
        "gda@fixed@alpha=0.1",
        "gda@fixed",
        "gda@fewshot-val",
        "clip-adapter@as-code",
        "clip-adapter@as-paper",
    ]
    assert board(tmp_path, ["gda@alpha=0.1", "gda@fixed"]).names == found.names[1:3]
    with pytest.raises(StoreError, match="gda means 3") as error:
        board(tmp_path, ["gda"])
    assert "gda@fewshot-val" in error.value.fix


def test_settings_that_were_given_to_a_choice_tell_its_rows_apart(tmp_path: Path) -> None:
    def chosen(views: int, alpha: float) -> Row:
        tried = [{"hparams": {"views": views, "alpha": a}, "top1_val": 0.5} for a in (0.1, 1.0)]
        return row(select="fewshot-val", hparams={"views": views, "alpha": alpha}, curve=tried)

    log(tmp_path, [chosen(1, 0.1), chosen(10, 1.0)])
    assert board(tmp_path).names == ["gda@views=1", "gda@views=10"]


def test_of_rows_that_nothing_tells_apart_the_last_counts_and_it_is_said(tmp_path: Path) -> None:
    log(tmp_path, [row(store_key="a", stores={"a": "1"}, top1_test=0.2), row(top1_test=0.3)])
    said: list[str] = []
    found = board(tmp_path, notice=said.append)
    assert found.top1("gda", Trial("birds", 4, 1)) == 0.3
    assert said == ["1 row of one name and trial left out: the last logged count"]


def test_a_method_without_settings_is_one_contender_whatever_the_policy(tmp_path: Path) -> None:
    said: list[str] = []
    log(tmp_path, [row(select="fixed"), row(select="fewshot-val")])
    assert board(tmp_path, notice=said.append).names == ["gda"]
    assert not said


def test_a_contender_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not all different"):
        board(log(tmp_path, [row(hparams={"alpha": 1.0})]), ["gda", "gda@fixed"])


def test_the_shortest_name_by_the_constants_needs_no_settings(tmp_path: Path) -> None:
    log(tmp_path, [row(hparams={"alpha": a}, constants=a == 1) for a in (0.1, 1.0)])
    assert board(tmp_path, ["gda"]).names == ["gda"]


@pytest.mark.parametrize(
    ("older", "word"),
    [
        ({"test_id": "before"}, "test pictures"),
        ({"labels": "before"}, "labels"),
        ({"model": "other"}, "--model"),
        ({"draw": "given"}, "--draw"),
        ({"method_version": 0}, "versions"),
    ],
)
def test_rows_that_cannot_be_compared_with_the_last_are_left_out(
    older: dict[str, object], word: str, tmp_path: Path
) -> None:
    log(tmp_path, [row(top1_test=0.1, **older), row(seed=2, top1_test=0.2)])
    said: list[str] = []
    found = board(tmp_path, notice=said.append)
    assert [*found.rows["gda"]] == [Trial("birds", 4, 2)]
    assert word in said[0]


def test_the_user_says_which_rows_count(tmp_path: Path) -> None:
    rows = [row(dataset=d, shots=k) for d in ("a/birds", "cars") for k in (1, 4, "all")]
    log(tmp_path, [*rows, row(model="other"), zero_shot(dataset="cars", model="other")])
    found = board(tmp_path, wanted=Wanted(["birds"], [4, "all"], "toy"))
    assert [*found.rows["gda"]] == [Trial("a/birds", 4, 1), Trial("a/birds", "all", 1)]
    log(tmp_path, [row(dataset="cars", draw="given")])
    drawn = board(tmp_path, wanted=Wanted(["cars"], model="toy", draw="ranked"))
    assert [*drawn.rows["gda"]] == [Trial("cars", k, 1) for k in (1, 4, "all")]
    with pytest.raises(StoreError, match=r"no results of --dataset dogs; there are of a/birds"):
        board(tmp_path, wanted=Wanted(["dogs"]))


def test_a_missing_method_is_answered_with_the_comparison_that_makes_its_rows(
    tmp_path: Path,
) -> None:
    log(tmp_path, [row(shots=k, seed=s) for k in (1, 16) for s in (1, 2)])
    with pytest.raises(StoreError, match="no rows of clap") as error:
        board(tmp_path, ["gda", "clap"], option=" --home H")
    assert error.value.fix == (
        "cacheclip compare --dataset birds --model toy --pretrained v1 --methods clap --shots 1,16 "
        "--seeds 2 --select fixed --draw ranked --home H"
    )
    with pytest.raises(UsageError, match="no method 'clapp'") as unknown:
        board(tmp_path, ["clapp"])
    assert "did you mean clap" in unknown.value.fix
    with pytest.raises(StoreError, match="no results") as empty:
        board(tmp_path / "nowhere", ["gda", "clap"])
    assert empty.value.fix == "cacheclip compare --methods gda,clap"


def test_what_some_lack_of_the_trials_of_others_is_a_command(tmp_path: Path) -> None:
    full = [row(method="clap", seed=s) for s in (1, 2, 3)]
    log(tmp_path, [*full, row(hparams={"alpha": 2.0}), row(hparams={"alpha": 3.0})])
    commands = board(tmp_path, ["clap", "gda@alpha=2"]).lacking()
    assert len(commands) == 1
    assert "--methods gda --shots 4 --seeds 3" in commands[0]
    assert "--set alpha=2" in commands[0]


def test_data_sets_count_the_same_however_many_seeds_they_have() -> None:
    values = {Trial("a", 4, s): 0.2 for s in (1, 2, 3, 4)} | {Trial("b", 4, 1): 0.6}
    assert over_datasets(values).value == pytest.approx(0.4)
    assert over_datasets(values).deviation is None  # of one seed that both have


def test_the_mean_over_data_sets_deviates_as_its_values_a_seed_do() -> None:
    values = {Trial("a", 4, 1): 0.1, Trial("a", 4, 2): 0.3, Trial("b", 4, 1): 0.5}
    values[Trial("b", 4, 2)] = 0.3
    found = over_datasets(values)
    assert (found.value, found.deviation) == pytest.approx((0.3, 0.0))
    assert by_dataset(values)["a"].deviation == pytest.approx(0.1 * 2**0.5)


def test_a_setting_given_at_one_shot_count_alone_makes_a_contender_of_its_own(
    tmp_path: Path,
) -> None:
    given = {"hparams": {"alpha": 1.0, "views": 2}, "constants": False}
    constant = {"hparams": {"alpha": 1.0}, "constants": True}
    log(tmp_path, [row(shots=1, top1_test=0.9, **given), row(top1_test=0.1, **constant)])
    found = board(tmp_path)
    assert found.names == ["gda@views=2", "gda"]
    assert found.common() == []


def test_settings_given_to_a_choice_differ_over_data_sets_and_shots_too(tmp_path: Path) -> None:
    def chosen(epochs: int, **changes: Any) -> Row:
        tried = [{"hparams": {"epochs": epochs, "lr": x}, "top1_val": 0.5} for x in (0.1, 1.0)]
        own = {"epochs": epochs, "lr": 0.1}
        return row(select="fewshot-val", hparams=own, curve=tried, **changes)

    log(tmp_path, [chosen(2, shots=1), chosen(3, shots=16), chosen(4, dataset="cars")])
    assert board(tmp_path).names == ["gda@epochs=2", "gda@epochs=3", "gda@epochs=4"]


def test_constants_that_follow_the_shots_do_not_part_what_was_given(tmp_path: Path) -> None:
    rows = [
        row(
            shots=k,
            hparams={"beta": 3.0 / k, "views": v},
            constants=False,
            given={"views": [v]},
        )
        for k in (1, 4)
        for v in (2, 10)
    ]
    found = board(log(tmp_path, rows))
    assert found.names == ["gda@views=2", "gda@views=10"]
    assert [trial.shots for trial in found.common()] == [1, 4]


def test_what_some_lack_is_made_with_every_setting_that_was_given(tmp_path: Path) -> None:
    told = {"hparams": {"epochs": 2}, "constants": False, "given": {"epochs": [2]}}
    log(tmp_path, [row(method="clap", seed=s) for s in (1, 2)] + [row(**told)])
    (command,) = board(tmp_path, ["gda", "clap"]).lacking()
    assert "--set epochs=2" in command


def test_runs_on_other_support_pictures_are_no_pair(tmp_path: Path) -> None:
    for draw, support in (("a", ["1"]), ("b", ["2"]), ("c", ["2"])):
        publish_json(tmp_path / "draws" / f"{draw}.json", {"support": support}, option="")
    file = {"draw": "file", "shots": 1}
    log(tmp_path, [row(draw_id="a", **file), row(method="clap", draw_id="b", **file)])
    said: list[str] = []
    assert board(tmp_path, notice=said.append).names == ["clap"]
    assert "on other support pictures" in said[0]
    log(tmp_path, [row(draw_id="c", **file)])  # it holds other validation pictures
    assert board(tmp_path).names == ["clap", "gda"]


def test_a_method_of_other_draws_is_found_by_the_option_that_is_named(tmp_path: Path) -> None:
    rows = [row(), row(method="clap"), row(draw="file", draw_id="x"), zero_shot()]
    log(tmp_path, rows)
    with pytest.raises(StoreError, match="1 row of other draws") as error:
        board(tmp_path, ["gda", "clap"])
    assert error.value.fix == "add --draw ranked"
    assert board(tmp_path, ["gda", "clap"], Wanted(draw="ranked")).common()
    with pytest.raises(StoreError, match="no rows of timo") as other:
        board(tmp_path, ["timo"])
    assert other.value.fix == (
        "cacheclip fit --dataset birds --model toy --pretrained v1 --method timo --shots 4 "
        f"--seed 1 --select fixed --draw {tmp_path}/draws/x.json"
    )


def test_a_policy_that_a_method_lacks_stays_in_the_command(tmp_path: Path) -> None:
    log(tmp_path, [row(hparams={"alpha": 1.0}, select="fewshot-val")])
    with pytest.raises(StoreError, match="no rows of gda@fixed") as error:
        board(tmp_path, ["gda@fixed"])
    assert "--select fixed" in error.value.fix
    with pytest.raises(StoreError) as typo:
        board(tmp_path, ["gda@fixd"])
    assert typo.value.fix == "gda"


def test_a_misspelled_data_set_is_answered_with_a_near_one(tmp_path: Path) -> None:
    log(tmp_path, [row()])
    with pytest.raises(StoreError) as error:
        board(tmp_path, wanted=Wanted(["birdss"]))
    assert error.value.fix == "did you mean --dataset birds?"


def test_a_sweep_is_one_line_until_it_is_asked_for(tmp_path: Path) -> None:
    rows = [row(hparams={"alpha": float(a)}, constants=a == 1) for a in range(1, 11)]
    kept, swept = board(log(tmp_path, rows)).without_sweeps()
    assert (kept.names, swept) == (["gda"], ["9 settings of gda"])


def test_shots_that_no_row_has_are_answered_with_those_that_there_are(tmp_path: Path) -> None:
    log(tmp_path, [row(shots=1), row(shots=16), zero_shot()])
    with pytest.raises(StoreError, match=r"no results of --shots 3; there are .* at 1, 16 shots"):
        board(tmp_path, wanted=Wanted(shots=[3]))


def test_an_encoder_or_classes_that_no_row_has_are_answered_with_those_that_there_are(
    tmp_path: Path,
) -> None:
    log(tmp_path, [row()])
    with pytest.raises(StoreError) as model:
        board(tmp_path, wanted=Wanted(model="nono"))
    with pytest.raises(StoreError) as classes:
        board(tmp_path, wanted=Wanted(classes="foo"))
    assert (model.value.fix, classes.value.fix) == ("give --model toy@v1", "give --classes all")


def test_starts_of_one_draw_count_as_their_mean(tmp_path: Path) -> None:
    rows = [row(init_seed=start, top1_test=x) for start, x in ((1, 0.4), (2, 0.6))]
    said: list[str] = []
    found = board(log(tmp_path, rows), notice=said.append)
    assert [found.top1("gda", trial) for trial in found.common()] == [pytest.approx(0.5)]
    assert said == []
    assert found.averaged == {rows[1].row_id}
