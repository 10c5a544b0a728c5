"""Two contenders trial by trial, and policies beside the best on test."""

from pathlib import Path

import numpy as np
import pytest

from cacheclip.errors import StoreError, UsageError
from cacheclip.stats.board import board
from cacheclip.stats.paired import compared
from cacheclip.stats.policies import honesty, lacking, table, unlisted
from cacheclip.stats.ranks import ranked
from cacheclip.stats.tables import accuracies, differences, ranks
from tests.stats.logs import answered, log, row, zero_shot


def two(root: Path, a: str, b: str) -> list[dict[str, object]]:
    """Two methods compared, without what is only there to be read."""
    return [own.as_json() for own in compared(board(root, [a, b]))]


def test_a_difference_is_the_unweighted_mean_over_data_sets(tmp_path: Path) -> None:
    rows = [row(dataset="a", seed=s, top1_test=0.5) for s in (1, 2, 3)]
    rows += [row(dataset="b", seed=1, top1_test=0.5)]
    rows += [row(method="clap", dataset="a", seed=s, top1_test=0.4) for s in (1, 2, 3)]
    rows += [row(method="clap", dataset="b", seed=1, top1_test=0.8)]
    (found,) = two(log(tmp_path, rows), "gda", "clap")
    assert found["difference"] == pytest.approx((0.1 - 0.3) / 2)
    assert (found["won"], found["tied"], found["lost"]) == (3, 0, 1)
    assert found["n_units"] == 2  # data sets, not trials
    assert found["ci95"] == pytest.approx([-0.3, 0.1])


def test_two_methods_change_places_with_their_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        row(method=m, dataset=d, shots=k, seed=s, top1_test=float(random.integers(40, 60)) / 100)
        for m in ("gda", "clap")
        for d in ("a", "b", "c")
        for k in (1, 4)
        for s in (1, 2)
    ]
    log(tmp_path, rows)
    there, back = two(tmp_path, "gda", "clap"), two(tmp_path, "clap", "gda")
    assert [own["shots"] for own in there] == [1, 4, None]
    for own, other in zip(there, back, strict=True):
        assert own["difference"] == pytest.approx(-float(str(other["difference"])))
        assert (own["won"], own["lost"]) == (other["lost"], other["won"])
        assert own["wilcoxon_p"] == pytest.approx(other["wilcoxon_p"])
        low, high = np.array(own["ci95"]) * 1.0
        assert [-high, -low] == pytest.approx(other["ci95"], abs=0.01)
    whole = there[-1]
    assert whole["difference"] == pytest.approx(
        (float(str(there[0]["difference"])) + float(str(there[1]["difference"]))) / 2
    )


def test_equal_methods_tie_everywhere(tmp_path: Path) -> None:
    rows = [row(method=m, seed=s, top1_test=s / 7) for m in ("gda", "clap") for s in (1, 2, 3)]
    (found,) = two(log(tmp_path, rows), "gda", "clap")
    assert (found["won"], found["tied"], found["lost"]) == (0, 3, 0)
    assert (found["sign_p"], found["wilcoxon_p"], found["ci95"]) == (1.0, 1.0, [0.0, 0.0])


def test_pictures_are_counted_from_what_was_answered(tmp_path: Path) -> None:
    label = np.array([0, 1, 2, 0, 1, 2])
    right, wrong = label.copy(), (label + 1) % 3
    answered(tmp_path, row(), np.where([1, 1, 1, 1, 0, 0], right, wrong), label)
    answered(tmp_path, row(method="clap"), np.where([0, 0, 1, 0, 1, 0], right, wrong), label)
    (found,) = compared(board(tmp_path, ["gda", "clap"]))
    (pair,) = found.pairs
    assert pair.pictures is not None
    assert (pair.pictures.first_only, pair.pictures.second_only) == (3, 1)
    assert pair.first - pair.second == pytest.approx((3 - 1) / 6)
    said: list[str] = []
    for file in (tmp_path / "predictions").iterdir():
        file.unlink()
    assert compared(board(tmp_path, ["gda", "clap"]), said.append)[0].pairs[0].pictures is None
    assert "1 of 1 trials" in said[0]


def test_methods_that_never_met_are_answered_with_a_command(tmp_path: Path) -> None:
    log(tmp_path, [row(seed=1), row(method="clap", seed=2)])
    with pytest.raises(StoreError, match="share no data set") as error:
        compared(board(tmp_path, ["gda", "clap"]))
    assert error.value.fix.startswith("cacheclip compare --dataset birds")


def test_tables_have_a_column_a_data_set_and_the_mean_of_those_that_are_whole(
    tmp_path: Path,
) -> None:
    rows = [row(dataset=d, seed=s, top1_test=s / 10) for d in ("a", "b") for s in (1, 2)]
    rows += [zero_shot(dataset="a", top1_test=0.4), row(dataset="a", method="clap", top1_test=0.5)]
    found = board(log(tmp_path, rows))
    ((title, (headers, cells)),) = accuracies(found)
    assert title == "4 shots"
    assert headers == ["method", "a", "b", "mean", "seeds"]
    assert cells == [
        ["gda", "15.0 ± 7.1", "15.0 ± 7.1", "15.0 ± 7.1", "1-2"],
        ["zero-shot", "40.0", "", "", "-"],
        ["clap", "50.0", "", "", "1"],
    ]
    assert ranked(found) is None  # there is one trial that all three have


def test_methods_that_read_other_test_pictures_are_marked(tmp_path: Path) -> None:
    rows = [row(setting="inductive"), zero_shot(method="tda", seed=1, setting="online")]
    found = board(log(tmp_path, rows))
    ((_, (_, cells)),) = accuracies(found)
    assert [line[0] for line in cells] == ["gda", "tda (online)"]


def test_ranks_are_over_data_sets_and_share_letters(tmp_path: Path) -> None:
    methods = ("gda", "clap", "prolip")
    rows = [
        row(method=m, dataset=d, top1_test=0.5 - k / 10)
        for k, m in enumerate(methods)
        for d in "abcdefgh"
    ]
    found = board(log(tmp_path, rows))
    whole = ranked(found)
    assert whole is not None
    _, cells = ranks(whole, found)
    assert cells == [["gda", "1.00", "a"], ["clap", "2.00", "ab"], ["prolip", "3.00", "b"]]


def test_a_line_of_differences_says_what_is_not_known(tmp_path: Path) -> None:
    log(tmp_path, [row(), row(method="clap", top1_test=0.4)])
    found = compared(board(tmp_path, ["gda", "clap"]))
    _, (cells,) = differences(found, ["gda", "clap"])
    assert cells == ["4", "50.0", "40.0", "+10.0", "-", "1-0-0", "1", "1", "-"]


CURVE = [{"hparams": {"alpha": a}, "top1_val": 0.5, "nll_val": 1.0} for a in (0.0, 1e-4, 1.0)]


def test_the_price_of_tuning_on_test_is_what_the_best_setting_has_over_a_policy(
    tmp_path: Path,
) -> None:
    accuracy = {(1, 0.1): 0.3, (1, 1.0): 0.5, (2, 0.1): 0.6, (2, 1.0): 0.4}
    rows = [
        row(seed=s, hparams={"alpha": a}, constants=a == 1, top1_test=x)
        for (s, a), x in accuracy.items()
    ]
    chosen = {"select": "fewshot-val", "hparams": {"alpha": 0.1}}
    rows += [row(seed=s, top1_test=accuracy[s, 0.1], curve=CURVE, **chosen) for s in (1, 2)]
    rows += [zero_shot(), row(method="clap")]  # nothing to choose: no line
    (line,) = honesty(board(log(tmp_path, rows)))
    found = line.as_json()
    assert found["best_on_test"] == pytest.approx(0.55)  # the best of each trial
    assert found["policies"]["fixed"]["price"] == pytest.approx(0.55 - 0.45)
    assert found["policies"]["fewshot-val"]["price"] == pytest.approx(0.55 - 0.45)
    assert (found["n_settings"], found["trials"]) == (2, 2)
    assert lacking(board(tmp_path), ["gda"]) == []
    with pytest.raises(UsageError, match="zero-shot draws nothing"):
        honesty(board(tmp_path), ["zero-shot"])


def test_policies_are_compared_on_the_trials_that_all_of_them_have(tmp_path: Path) -> None:
    rows = [row(seed=s, hparams={"alpha": 1.0}, top1_test=0.2) for s in (1, 2, 3)]
    rows += [row(seed=2, hparams={"alpha": 2.0}, select="full-val", top1_test=0.5)]
    (line,) = honesty(board(log(tmp_path, rows)))
    assert [trial.seed for trial in line.best] == [2]


def test_what_a_policy_chose_from_can_be_tested_by_the_command_that_is_named(
    tmp_path: Path,
) -> None:
    log(tmp_path, [row(select="fewshot-val", curve=CURVE, hparams={"alpha": 1.0})])
    with pytest.raises(StoreError, match="one policy and one setting in each trial") as error:
        honesty(board(tmp_path))
    assert "--select fixed --draw ranked --set alpha=0,0.0001,1" in error.value.fix
    grid, constants = lacking(board(tmp_path))
    assert grid == error.value.fix
    assert constants == grid.removesuffix(" --set alpha=0,0.0001,1")


def test_a_price_is_of_trials_with_the_whole_grid_and_the_rest_is_asked_for(
    tmp_path: Path,
) -> None:
    rows = [
        row(seed=1, hparams={"alpha": a}, constants=a == 1, top1_test=a / 10)
        for a in (0.1, 1.0, 3.0)
    ]
    rows += [row(seed=2, hparams={"alpha": 1.0}, constants=True, top1_test=0.9)]
    chosen = {"select": "fewshot-val", "hparams": {"alpha": 1.0}, "curve": CURVE}
    rows += [row(seed=s, top1_test=0.1 + 0.8 * (s - 1), **chosen) for s in (1, 2)]
    found = board(log(tmp_path, rows))
    (line,) = honesty(found)
    assert [trial.seed for trial in line.best] == [1]
    assert (line.n_settings, line.n_trials) == ((3, 3), 2)
    assert line.price("fixed") == pytest.approx(0.3 - 0.1)
    (command,) = lacking(found, ["gda"])
    assert command.endswith("--seeds 2 --select fixed --draw ranked --set alpha=0.1,3")


def test_settings_given_to_a_policy_make_a_policy_of_its_own(tmp_path: Path) -> None:
    told = {"select": "fewshot-val", "curve": CURVE}
    rows = [
        row(hparams={"alpha": 1.0}, constants=True, top1_test=0.5),
        row(hparams={"alpha": 0.0}, given={}, top1_test=0.6, **told),
        row(hparams={"alpha": 0.0, "views": 2}, given={"views": [2]}, top1_test=0.7, **told),
    ]
    found = board(log(tmp_path, rows))
    (line,) = honesty(found)
    accuracy = {name: [*own.values()] for name, own in line.policies.items()}
    assert accuracy == {"fixed": [0.5], "fewshot-val": [0.6], "fewshot-val@views=2": [0.7]}


def test_what_one_data_set_alone_was_tried_with_hides_no_other(tmp_path: Path) -> None:
    rows = [
        row(dataset=d, hparams={"alpha": a}, constants=a == 1, top1_test=a / 10)
        for d in ("birds", "cars", "dogs")
        for a in (0.1, 1.0)
    ]
    chosen = {"hparams": {"alpha": 1.0}, "top1_test": 0.1}
    rows += [row(dataset=d, select="fewshot-val", **chosen) for d in ("birds", "cars")]
    rows += [row(dataset="dogs", select="support-loo", **chosen)]
    found = board(log(tmp_path, rows))
    (line,) = honesty(found, ["gda"])
    assert list(line.policies) == ["fixed", "fewshot-val"]
    assert ([trial.dataset for trial in line.best], line.n_trials) == (["birds", "cars"], 3)
    missing = lacking(found, ["gda"])
    assert ["--dataset dogs" in own and "--select fewshot-val" in own for own in missing] == [
        True,
        False,
        False,
    ]


def test_the_oracle_marks_its_own_column_and_the_settings_that_it_tried(tmp_path: Path) -> None:
    rows = [row(hparams={"alpha": 2.0}, select="test-oracle", top1_test=0.7)]
    rows += [row(hparams={"alpha": 1.0}, constants=True)]
    (line,) = honesty(board(log(tmp_path, rows)))
    headers, (cells,) = table([line])
    assert cells[0] == "gda"
    assert dict(zip(headers, cells, strict=True))["settings"] == "2+"


def test_a_method_without_settings_has_no_price(tmp_path: Path) -> None:
    rows = [row(method="nearest-mean"), row(hparams={"alpha": 1.0}, constants=True)]
    found = board(log(tmp_path, rows))
    assert not any("nearest-mean" in own for own in lacking(found))
    with pytest.raises(UsageError, match="nearest-mean has no settings"):
        honesty(found, ["nearest-mean"])


def test_policies_that_never_met_are_said_to_be_so(tmp_path: Path) -> None:
    rows = [row(seed=1, hparams={"alpha": 1.0}, constants=True)]
    rows += [row(seed=2, hparams={"alpha": 2.0}, select="fewshot-val")]
    found = board(log(tmp_path, rows))
    with pytest.raises(StoreError, match="no trial with several settings and all of its policies"):
        honesty(found, ["gda"])
    assert unlisted(found, []) == ["gda at 4 shots"]


def test_a_contender_without_rows_at_a_shot_count_has_no_line_there(tmp_path: Path) -> None:
    rows = [row(dataset=d, shots=k) for d in ("a", "b") for k in (1, 4)]
    found = board(log(tmp_path, [*rows, row(dataset="a", method="clap", shots=4)]))
    lines = {title: [line[0] for line in cells] for title, (_, cells) in accuracies(found)}
    assert lines == {"1 shot": ["gda"], "4 shots": ["gda", "clap"]}


def test_several_starts_have_no_picture_by_picture_test(tmp_path: Path) -> None:
    label = np.array([0, 1, 2])
    for method, start in (("gda", 1), ("gda", 2), ("clap", 1)):
        answered(tmp_path, row(method=method, init_seed=start), label, label)
    said: list[str] = []
    (whole,) = compared(board(tmp_path, ["gda", "clap"]), said.append)
    assert whole.pairs[0].pictures is None
    assert "several starts are one mean" in said[0]
