"""Fit and compare from Python: what the commands do, on arrays, without a home."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

import cacheclip
from cacheclip.api.head import Head
from cacheclip.api.verbs import compare, fit
from cacheclip.cli.options import settings_of
from cacheclip.errors import (
    CacheclipError,
    InputError,
    MachineError,
    StoreError,
    UsageError,
    argument,
    in_python,
)
from cacheclip.exchange.import_npz import import_npz
from cacheclip.features import Features
from cacheclip.methods import base
from cacheclip.results import LOG, documented
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit as fit_with_journal
from cacheclip.study.settings import choices

TIP: dict[str, Any] = {"alpha": [0.5, 1.0, 2.0], "beta": 5.5}


def test_a_head_answers_saves_and_answers_the_same(data: Features, tmp_path: Path) -> None:
    head = fit("tip-adapter", data, shots=4, seed=1, **TIP)
    assert head.settings["alpha"] in TIP["alpha"]
    assert head.row is not None
    assert head.score(data) == head.row.top1_test
    p = head.predict_proba(data.test.X)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    assert head.predict(data.test.X).tolist() == p.argmax(1).tolist()
    X, y = data.train.X, data.train.y
    assert head.score(X, y) == (head.predict(3 * X) == y).mean()  # of any norm
    again = Head.load(head.save(tmp_path / "toys.safetensors"))
    np.testing.assert_array_equal(again.logits(X), head.logits(X))
    assert again.predict(X).tolist() == [str(label) for label in head.predict(X)]
    assert again.score(data) == head.score(data)
    assert "tip-adapter alpha=" in repr(head)


@pytest.mark.parametrize("method", ["zero-shot", "gda", "tda"])
def test_a_head_scores_as_its_row_whatever_its_answers_depend_on(
    method: str, data: Features, tmp_path: Path
) -> None:
    head = fit(method, data, shots=4, seed=2)
    assert head.row is not None
    assert head.score(data) == head.row.top1_test
    assert len(head.predict(data.test.X)) == 30
    if method == "tda":
        with pytest.raises(UsageError, match="leaves no file"):
            head.save(tmp_path / "tda.safetensors")


def test_what_arrays_do_not_have_is_said(data: Features) -> None:
    for method, lacks in (("coop", "no part tower"), ("prolip", "no pre-projection")):
        with pytest.raises(StoreError, match=lacks):
            fit(method, data)
    table = compare(["zero-shot", "prolip"], data, shots=1)
    assert [row.method for row in table.rows] == ["zero-shot"]
    assert any("prolip does not run" in line for line in table.notices)


def test_the_commands_and_python_are_one(arrays: dict[str, Any], tmp_path: Path) -> None:
    """The same row ids, numbers and bundle bytes, from arrays and from a home."""
    own = {"features": "X", "labels": "y", "text_features": "text"}
    file = {name: arrays[own.get(name, name)] for name in (*own, "split", "logit_scale")}
    np.savez(tmp_path / "toys.npz", **file)
    home = Home(tmp_path / "home")
    import_npz(tmp_path / "toys.npz", home)
    data = Features.of(**arrays, name="toys")
    request = Request(("tip-adapter",), (4,), settings={"alpha": [0.5, 1.0, 2.0], "beta": 5.5})
    wanted = fit_with_journal(request, home.find(), home)
    head = fit("tip-adapter", data, shots=4, **TIP)
    assert head.row is not None
    assert wanted.bundle is not None
    assert head.row.row_id == wanted.row.row_id
    assert head.save(tmp_path / "b.safetensors").read_bytes() == wanted.bundle.read_bytes()
    asked_for = Request(("zero-shot", "nearest-mean"), (1, 4), (1, 2))
    there = Comparison(asked_for, home.find(), home)
    wanted_rows = [row for _, row in there.run()]
    table = compare(["zero-shot", "nearest-mean"], data, shots=[1, 4], seeds=2)
    assert [(r.row_id, r.top1_test) for r in table.rows] == [
        (r.row_id, r.top1_test) for r in wanted_rows
    ]


def test_a_table_is_read_by_people_and_programs(data: Features) -> None:
    table = compare(
        ["zero-shot", "tip-adapter"], data, shots=[1, 99], seeds=2, tip_adapter={"alpha": 1}
    )
    assert len(table) == 5
    assert [row.shots for row in table.errors] == [99, 99]
    assert 'shots=18 or fewer, fewer="keep"' in str(table.errors[0].error)
    assert "tip-adapter" in repr(table)
    assert "<td>tip-adapter</td>" in table._repr_html_()
    assert table.best is not None
    assert table.best.shots == 1


def test_the_best_row_of_a_table_is_one_whose_head_can_be_had(data: Features) -> None:
    """A method that answers for the whole test set has none, however well it does."""
    table = compare(["transclip-fs", "nearest-mean"], data, shots=2, seeds=1, select="fewshot-val")
    assert table.best is not None
    assert table.best.method == "nearest-mean"
    assert compare("transclip-fs", data, shots=2, seeds=1, select="fewshot-val").best is None


def test_rows_become_a_frame_where_pandas_is(
    data: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = compare("zero-shot", data)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MachineError, match="pip install pandas"):
        table.to_pandas()
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    (line,) = table.to_pandas()
    assert line["row_id"] == table.rows[0].row_id
    assert set(line) == set(documented())


def test_nothing_is_written_unless_a_folder_is_given(
    data: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHECLIP_HOME", str(tmp_path / "home"))
    first = compare("nearest-mean", data, shots=1, seeds=2)
    assert list(tmp_path.iterdir()) == []
    kept = compare("nearest-mean", data, shots=1, seeds=2, results="kept")
    log = (tmp_path / "kept" / LOG).read_text()
    again = compare("nearest-mean", data, shots=1, seeds=2, results=tmp_path / "kept")
    assert (tmp_path / "kept" / LOG).read_text() == log
    assert [row.top1_test for row in again.rows] == [row.top1_test for row in first.rows]
    assert again.rows == kept.rows


def test_without_a_test_split_there_is_a_head_and_no_table(arrays: dict[str, Any]) -> None:
    whole = Features.of(arrays["X"], arrays["y"])
    head = fit("linear-probe", whole, shots="all")
    assert head.row is not None
    assert (head.row.top1_test, head.row.n_test, head.row.n_train) == (None, 0, 150)
    assert head.score(arrays["X"], arrays["y"]) > 0.9
    for ask in (lambda: head.score(whole), lambda: compare("linear-probe", whole)):
        with pytest.raises(CacheclipError, match="no test split"):
            ask()


def test_test_labels_change_no_head(arrays: dict[str, Any]) -> None:
    moved = arrays["y"].copy()
    test = arrays["split"] == "test"
    moved[test] = (moved[test] + 1) % 5
    one, other = (
        fit("tip-adapter", Features.of(**(arrays | {"y": y}))) for y in (arrays["y"], moved)
    )
    assert one.settings == other.settings
    np.testing.assert_array_equal(one.logits(arrays["X"]), other.logits(arrays["X"]))
    assert one.row is not None
    assert other.row is not None
    assert one.row.top1_test != other.row.top1_test


MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "method": ("tip-adaptor", {}, "did you mean tip-adapter"),
    "shots": ("tip-adapter", {"shots": 99}, 'shots=18 or fewer, fewer="keep"'),
    "no shots": ("tip-adapter", {"shots": 2.5}, 'shots="all"'),
    "seed": ("tip-adapter", {"seed": -1}, "a whole number"),
    "setting": ("tip-adapter", {"alfa": 2}, "did you mean alpha=2"),
    "value": ("tip-adapter", {"alpha": None}, "alpha=[VALUE, VALUE]"),
    "word": ("tip-adapter", {"alpha": "x"}, "a value such as 1"),
    "several": ("tip-adapter", {"alpha": [1, 2], "select": "fixed"}, "one value each"),
    "several shots": ("gda", {"shots": [2, 4]}, 'cacheclip.compare(["gda"], data, shots=[2, 4])'),
    "scoped": ("linear-probe", {"c": 1}, "did you mean C=1 or"),
    "policy": (
        "tip-adapter",
        {"select": "best"},
        "one of fewshot-val, fixed, fixed-from-imagenet, full-val",
    ),
    "fewer": ("tip-adapter", {"fewer": "kep"}, 'fewer="keep"'),
    "draw": ("tip-adapter", {"draw": "given"}, 'draw="ranked"'),
    "not finite": ("clip-adapter", {"lr": 1e30, "epochs": 2, "alpha": 1.0}, "smaller lr"),
}


@pytest.mark.parametrize(("method", "given", "fix"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_told_in_the_words_of_python(
    method: str, given: dict[str, Any], fix: str, data: Features
) -> None:
    with pytest.raises(CacheclipError) as caught:
        fit(method, data, **given)
    assert fix in caught.value.fix
    assert len(str(caught.value).splitlines()) == 3
    assert "--" not in str(caught.value)


def test_other_mistakes_with_a_head_and_data(data: Features, arrays: dict[str, Any]) -> None:
    head = fit("nearest-mean", data, shots=2)
    names = Features.of(arrays["X"], np.array(list("abcde"))[arrays["y"]])
    both = ["tip-adapter", "clip-adapter"]
    wrong: list[tuple[Any, type[CacheclipError], str]] = [
        (lambda: fit("tip-adapter", "clipart"), UsageError, "cacheclip.load('clipart')"),  # type: ignore[arg-type]
        (lambda: compare([], data), UsageError, "zero-shot"),
        (lambda: compare("tip-adapter", data, seeds=0), UsageError, "seeds=3"),
        (
            lambda: compare(both, data, alpha=1),
            UsageError,
            "tip_adapter={",
        ),
        (lambda: head.predict(arrays["X"][:, :3]), InputError, "encoder"),
        (lambda: head.score(names), InputError, "head.score(X, y)"),
        (lambda: head.score(arrays["X"], ["a"] * 150), InputError, "head.classnames.index"),
        (lambda: head.score(arrays["X"], [1]), InputError, "one label a row"),
        (lambda: head.save("head.txt"), InputError, ".safetensors"),
        (lambda: fit("tip-adapter", names), CacheclipError, "text=T, logit_scale=100"),
    ]
    for ask, kind, fix in wrong:
        with pytest.raises(kind) as caught:
            ask()
        assert fix in caught.value.fix
        assert "--" not in str(caught.value)


def test_labels_that_the_head_does_not_know_are_no_errors_of_it(arrays: dict[str, Any]) -> None:
    X, y = arrays["X"], arrays["y"]
    names = np.array(["ant", "bee", "cow", "doe", "eel"])[y]
    by_number, by_name = (fit("nearest-mean", Features.of(X, own), shots=4) for own in (y, names))
    gaps = [None, float("nan"), *names[2:]]
    wrong: list[tuple[Head, Any, str]] = [
        (by_name, np.where(y == 0, "Ant", names), "30 of 150 labels .* 'Ant'"),
        (by_name, gaps, "2 of 150 labels .* None, nan"),
        (by_name, np.array(gaps, object), "2 of 150 labels .* None, nan"),
        (by_number, y + 1, "30 of 150 labels .*: 5$"),
        (by_number, np.where(y == 1, np.nan, y), "30 of 150 labels .*: nan$"),
        (by_number, [None, *y[1:]], "1 of 150 labels .* None"),
    ]
    for head, labels, what in wrong:
        with pytest.raises(InputError) as caught:
            head.score(X, labels)
        assert re.search(what, caught.value.what)
        own = {"np": np, "head": head, "X": X, "y": labels}
        exec(caught.value.fix, own)
        assert len(own["X"]) < len(X)
        if what != "30 of 150 labels .*: 5$":  # which are other classes, still
            assert head.score(own["X"], own["y"]) > 0.6
    with pytest.raises(InputError, match="150 of 150") as caught:
        by_number.score(X, y + 7)
    assert "head.classes" in caught.value.fix
    with pytest.raises(InputError, match="no rows to score"):
        by_name.score(X[:0], names[:0])
    assert by_name.score(X, names.astype(object)) == by_name.score(X, names.tolist())
    assert by_number.score(X, y.astype(float)) == by_number.score(X, y.astype(object))


def test_no_rows_have_no_answers(data: Features) -> None:
    head = fit("zero-shot", data)
    none = data.test.X[:0]
    assert head.logits(none).shape == head.predict_proba(none).shape == (0, 5)
    assert head.predict(none).shape == (0,)
    assert head.predict(none).dtype == head.predict(data.test.X).dtype


def test_features_that_are_not_of_the_head_are_refused(arrays: dict[str, Any]) -> None:
    data = Features.of(**arrays)
    head = fit("nearest-mean", data, shots=2)
    half = arrays | {"X": arrays["X"][:, :8], "text": arrays["text"][:, :8]}
    with pytest.raises(InputError, match="8 numbers a row, and the head learned from 16"):
        head.score(Features.of(**half))
    with pytest.raises(InputError, match="a, b, c, d, e are none of the head's; 0, 1, 2, 3, 4 are"):
        head.score(Features.of(**arrays, classnames=list("abcde")))
    with pytest.raises(InputError, match="another order"):
        head.score(Features.of(**arrays, classnames=list("43210")))
    for rows in (data.test, data):
        with pytest.raises(InputError) as caught:
            head.predict(rows)  # type: ignore[arg-type]
        assert "data.test.X" in caught.value.fix


@pytest.mark.parametrize("there", ["train", "test"])
def test_candidates_that_nothing_chooses_among_are_told_how_to_go_on(
    there: str, arrays: dict[str, Any]
) -> None:
    arrays["split"] = np.where(arrays["split"] == "test", there, "train")
    data = Features.of(**arrays)
    given = {"alpha": np.array([1.0, 2.0])}
    with pytest.raises(UsageError, match="does not choose") as caught:
        fit("tip-adapter", data, shots=2, select="fixed", tip_adapter=given, beta=5.5)
    own = arrays | {"cacheclip": cacheclip, "GridSearchCV": GridSearchCV, "data": data}
    exec(f"made = {caught.value.fix}", own)
    made: Any = own["made"]
    rows = [row.hparams for row in made.rows] if there == "test" else made.cv_results_["params"]
    assert {row["alpha"] for row in rows} == {1.0, 2.0}
    assert "GridSearchCV(cacheclip.FewShotClassifier" in caught.value.fix


def test_failed_rows_say_why_and_rows_are_short(data: Features) -> None:
    table = compare(
        ["zero-shot", "tip-adapter", "gda"], data, shots=[1, 99], seeds=2, tip_adapter=TIP
    )
    (line,) = (line for line in str(table).splitlines() if line.startswith("failed: "))
    assert line.startswith("failed: tip-adapter at 99 shots, gda at 99 shots: 5 of 5 classes have")
    assert line in table._repr_html_().replace("&quot;", '"')
    assert len(repr(table.best)) < 3000


def test_a_command_line_and_python_give_the_same_values() -> None:
    methods = [base.get("tip-adapter"), base.get("clip-adapter")]
    written = ["beta=1,2.5", "clip-adapter.alpha=0.5,learned", "epochs=3", "beta=4"]
    given = {"beta": [1, 2.5, 4], "epochs": np.int64(3)}
    scoped = {"clip_adapter": {"alpha": [np.float64(0.5), "learned"]}}
    assert choices(settings_of(written), methods) == choices(given | scoped, methods)
    assert choices(given | scoped, methods)["clip-adapter"]["alpha"] == (0.5, "learned")
    for several in (range(1, 3), (1, 2), np.array([1.0, 2.0]), [1, 2.0, 1.0]):
        assert choices({"beta": several}, methods)["tip-adapter"] == {"beta": (1.0, 2.0)}
    for none in (None, True, [], [None], "1", b"1", np.array([[True]]), {1}, 10**400):
        with pytest.raises(CacheclipError, match=r"^error: beta = "):
            choices({"beta": none}, methods)


def test_an_option_is_an_argument_to_who_calls_a_function() -> None:
    said = argument("select", "fixed"), argument("shots", 1, 4), argument("max-memory")
    assert said == ("--select fixed", "--shots 1,4", "--max-memory")
    with in_python():
        said = argument("select", "fixed"), argument("shots", 1, 4), argument("max-memory")
    assert said == ('select="fixed"', "shots=[1, 4]", "max_memory")
    assert argument("draw") == "--draw"


def test_python_cuts_classes_and_tests_one_fit_on_others(
    data: Features, arrays: dict[str, Any]
) -> None:
    base = data.only("base")
    head = fit("linear-adapter", base, shots=2, epochs=3)
    assert head.classnames == base.classnames == data.classnames[: len(base.classnames)]
    assert head.row is not None
    assert (head.row.classes, head.score(base)) == ("base", head.row.top1_test)
    assert set(head.predict(data.only("new").test.X)) <= set(base.classes)
    with pytest.raises(InputError, match="other classes"):
        head.score(data)
    table = compare("linear-adapter", data, shots=2, seeds=1, epochs=3, base_to_new=True)
    assert [row.classes for row in table.rows] == ["base", "new", "all"]
    assert table.rows[0].row_id == head.row.row_id
    assert "H of means" in repr(table)
    assert table.best is table.rows[0]
    with pytest.raises(UsageError, match="tested on twice") as twice:
        compare("linear-adapter", base, shots=2, test_on=data)
    assert 'Features.of(..., name="NAME")' in twice.value.fix
    named = Features.of(**arrays, name="again")
    shifted = compare(
        "linear-adapter", base, shots=2, seeds=[1, 1], init_seeds=[7, 7], test_on=named, epochs=3
    )
    assert [row.init_seed for row in shifted.rows] == [7, 7]
    assert [row.n_classes for row in shifted.rows] == [len(base.classes)] * 2
    assert shifted.rows[0].top1_test == shifted.rows[1].top1_test  # the same pictures
    with pytest.raises(UsageError, match="where features are needed"):
        compare("zero-shot", data, test_on="birds")  # type: ignore[arg-type]


def test_several_policies_are_a_list_and_no_text(data: Features) -> None:
    with pytest.raises(UsageError, match="no name of one policy") as error:
        compare("gda", data, shots=1, seeds=1, select="fixed, support-loo")
    assert 'select=["fixed", "support-loo"]' in error.value.fix


def test_a_head_tuned_on_the_test_pictures_leaves_no_file(data: Features, tmp_path: Path) -> None:
    head = fit("tip-adapter", data, shots=1, select="test-oracle")
    with pytest.raises(UsageError, match="tuned on the test pictures"):
        head.save(tmp_path / "head.safetensors")
    assert not [*tmp_path.iterdir()]


def test_base_to_new_of_some_classes_has_both_harmonic_means(data: Features) -> None:
    some = data.only([str(k) for k in (0, 1, 2, 4)])
    table = compare("zero-shot", some, seeds=1, base_to_new=True)
    assert "H of means  mean H" in repr(table)
    assert [row.classnames for row in table.rows][:2] == [["0", "1"], ["2", "4"]]


def test_a_head_serves_other_classes_by_their_shots_without_a_step(data: Features) -> None:
    base, new = data.only("base"), data.only("new")
    asked: dict[str, Any] = {"shots": 2, "select": "fixed", "epochs": 3}
    head = fit("meta-adapter", base, **asked)
    other = head.transfer(new, shots=2)
    assert other.classnames == new.classnames
    table = compare("meta-adapter", data, seeds=1, base_to_new=True, **asked)
    assert other.score(new) == table.rows[1].top1_test
    assert other.transfer(base, shots=2).score(base) == head.score(base)
    with pytest.raises(UsageError, match="its own classes alone"):
        fit("tip-adapter", base, shots=2, select="fixed").transfer(new)
    by_difficulty = compare("zero-shot", data, seeds=1, base_to_new="difficulty")
    assert [row.classes for row in by_difficulty.rows] == ["easy", "hard", "all"]
