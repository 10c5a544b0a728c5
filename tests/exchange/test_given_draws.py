"""Support sets that came with the arrays: checked, kept beside the labels, learned from."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.errors import CacheclipError, InputError, StoreError, UsageError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.results import Row
from cacheclip.store.given import DRAWS_FILE, common_seeds
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit

Save = Callable[..., Path]
Arrays = dict[str, Any]


def drawn(arrays: Arrays, shots: int, seed: int) -> Any:
    """Train rows, `shots` a class, in an order of no order."""
    random = np.random.default_rng(seed)
    rows = [
        random.permutation(np.flatnonzero((arrays["labels"] == c) & (arrays["split"] == "train")))
        for c in range(3)
    ]
    return random.permutation(np.concatenate([own[:shots] for own in rows]))


def draws(arrays: Arrays) -> Arrays:
    return {
        f"draw_{seed}_{shots}": drawn(arrays, shots, seed) for seed in (1, 2, 3) for shots in (1, 4)
    }


def rows_of(home: Home, request: Request) -> list[Row]:
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return comparison.rows


def test_runs_learn_from_the_rows_that_were_given(arrays: Arrays, save: Save, home: Home) -> None:
    given = draws(arrays)
    report = import_npz(save(**given), home)
    assert report.draws == ((1, 1), (1, 4), (2, 1), (2, 4), (3, 1), (3, 4))
    assert report.next_command == "cacheclip compare --shots 1,4 --seeds 3"
    request = Request(("nearest-mean",), (1, 4), (1, 2, 3), "fewshot-val")
    comparison = Comparison(request, home.find(), home)
    assert comparison.notices == ["draws as given with npz/toys; others with --draw ranked"]
    for _, row in comparison.run():
        assert row.draw == "given"
        kept = json.loads((home.root / "draws" / f"{row.draw_id}.json").read_text())
        rows = given[f"draw_{row.seed}_{row.shots}"]
        assert set(kept["support"]) == set(arrays["sample_ids"][rows])
        by_class = rows[np.argsort(arrays["labels"][rows], kind="stable")]
        assert kept["support"] == arrays["sample_ids"][by_class].tolist()
        assert len(kept["val"]) == 3 * min(3, row.shots)
    own = {row.draw_id for row in comparison.rows}
    ranked = rows_of(home, Request(("nearest-mean",), (1, 4), (1, 2, 3), draw="ranked"))
    assert {row.draw for row in ranked} == {"ranked"}
    assert not own & {row.draw_id for row in ranked}


def test_the_support_set_decides_the_answer(arrays: Arrays, save: Save, home: Home) -> None:
    """Nearest mean of the given rows, computed here."""
    given = draws(arrays)
    import_npz(save(**given), home)
    row = fit(Request(("nearest-mean",), (4,), (2,)), home.find(), home).row
    unit = arrays["features"] / np.linalg.norm(arrays["features"], axis=1, keepdims=True)
    rows = given["draw_2_4"]
    means = np.stack([unit[rows[arrays["labels"][rows] == c]].mean(0) for c in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    test = arrays["split"] == "test"
    right = (unit[test] @ means.T).argmax(1) == arrays["labels"][test]
    assert row.top1_test == pytest.approx(right.mean())


def test_zero_shot_rows_are_those_of_any_draw(arrays: Arrays, save: Save, home: Home) -> None:
    import_npz(save(), home)
    (before,) = rows_of(home, Request(("zero-shot",), (1,), (1,)))
    import_npz(save(**draws(arrays)), home)
    again = Comparison(Request(("zero-shot",), (1,), (1,)), home.find(), home)
    assert again.reused == 1
    assert again.rows[0].row_id == before.row_id


def test_what_did_not_come_with_the_set_is_refused_with_what_did(
    arrays: Arrays, save: Save, home: Home
) -> None:
    import_npz(save(**draws(arrays)), home)
    asked = Request(("nearest-mean",), (1, 2, 4), (1, 2))
    for draw in (None, "given"):
        with pytest.raises(InputError) as caught:
            Comparison(replace(asked, draw=draw), home.find(), home)
        assert caught.value.what == (
            "2 draws did not come with this set: seed 1 with 2 shots, seed 2 with 2 shots"
        )
        assert "has 1 shot: seed 1, 2, 3; 4 shots: seed 1, 2, 3" in caught.value.where
        assert "--draw ranked" in caught.value.fix
    words = shlex.split(caught.value.fix.partition("or: ")[2])
    assert words[:4] == ["cacheclip", "compare", "--dataset", "npz/toys"]
    assert words[4:8] == ["--methods", "nearest-mean", "--shots", "1,4"]
    assert len(rows_of(home, replace(asked, draw="ranked"))) == 6
    with pytest.raises(UsageError, match="no --draw shuffled"):
        Comparison(replace(asked, draw="shuffled"), home.find(), home)


def test_without_given_draws_they_are_not_to_be_had(save: Save, home: Home) -> None:
    import_npz(save(), home)
    with pytest.raises(InputError, match="did not come with this set") as caught:
        fit(Request(("nearest-mean",), (1,), draw="given"), home.find(), home)
    assert "has no draws" in caught.value.where


def test_other_draws_of_a_later_import_count(arrays: Arrays, save: Save, home: Home) -> None:
    request = Request(("nearest-mean",), (4,), (1,))
    import_npz(save(**draws(arrays)), home)
    (first,) = rows_of(home, request)
    report = import_npz(save(draw_1_4=drawn(arrays, 4, 9)), home)
    assert (report.written, report.draws) == (0, ((1, 4),))
    (second,) = rows_of(home, request)
    assert first.draw_id != second.draw_id
    assert first.row_id != second.row_id
    report = import_npz(save(), home)
    assert report.notices[0].startswith("the draws of an earlier import stay: ")
    assert report.draws == ((1, 4),)
    (third,) = rows_of(home, request)
    assert third == second


def test_unequal_draws_are_taken_as_they_are_and_said(
    arrays: Arrays, save: Save, home: Home
) -> None:
    rows = drawn(arrays, 4, 1)
    fewer = np.delete(rows, np.flatnonzero(arrays["labels"][rows] == 1)[:2])
    report = import_npz(save(draw_1_4=fewer), home)
    assert report.notices == (
        "draws with other numbers of rows a class than named: draw_1_4 (2 to 4)",
    )
    row = fit(Request(("linear-probe",), (4,)), home.find(), home).row
    assert (row.n_train, row.shots, row.draw) == (10, 4, "given")


def test_draws_of_unequal_sizes_run_side_by_side_as_alone(
    arrays: Arrays, save: Save, home: Home
) -> None:
    sizes = {f"draw_{seed}_4": drawn(arrays, 2 + seed, seed) for seed in (1, 2, 3)}
    import_npz(save(**sizes), home)
    for method in ("nearest-mean", "linear-probe"):
        together = rows_of(home, Request((method,), (4,), (1, 2, 3), "fixed"))
        assert [row.n_train for row in together] == [9, 12, 15]
        for row in together:
            own = Request((method,), (4,), (row.seed or 0,), "fixed", on_existing="redo")
            (alone,) = rows_of(home, own)
            assert (alone.row_id, alone.top1_test) == (row.row_id, row.top1_test)


def test_rows_a_class_a_line_are_taken(arrays: Arrays, save: Save, home: Home) -> None:
    rows = drawn(arrays, 4, 1)
    by_class = np.stack([rows[arrays["labels"][rows] == c] for c in range(3)])
    import_npz(save(draw_1_4=by_class), home)
    assert len(home.find().given_draws[1, 4]) == 12


FAULTS: list[tuple[str, Callable[[Arrays, Any], Any], str, bool]] = [
    ("ids", lambda a, rows: a["sample_ids"][rows], "texts and not rows of the file", True),
    ("mask", lambda a, rows: np.isin(np.arange(36), rows), "bool and not rows", True),
    ("floats", lambda a, rows: rows.astype(float), "float64 and not rows", True),
    ("twice", lambda a, rows: [*rows, rows[0]], "1 rows stand there more than once", True),
    ("beyond", lambda a, rows: rows + 100, "and the file has 0 to 35", False),
    ("negative", lambda a, rows: rows - 100, "and the file has 0 to 35", False),
    ("test rows", lambda a, rows: np.arange(36), "18 of 36 rows are not of split train", False),
    ("empty", lambda a, rows: np.empty(0, int), "its shape is [0]", False),
    ("a class lost", lambda a, rows: rows[a["labels"][rows] != 1], "have no row: bee", False),
]


@pytest.mark.parametrize(
    ("change", "said", "mends"), [own[1:] for own in FAULTS], ids=[own[0] for own in FAULTS]
)
def test_a_draw_that_is_none_is_named(
    change: Callable[[Arrays, Any], Any],
    said: str,
    mends: bool,
    arrays: Arrays,
    save: Save,
    home: Home,
) -> None:
    draw = np.array(change(arrays, drawn(arrays, 4, 1)))
    with pytest.raises(InputError) as caught:
        import_npz(save(draw_1_4=draw), home)
    assert caught.value.what.startswith("draw_1_4: ")
    assert said in caught.value.what
    assert not home.root.exists()
    if mends:
        given = arrays | {"draw_1_4": draw}
        exec(caught.value.fix, {"np": np}, given)
        import_npz(save(draw_1_4=given["draw_1_4"]), home)
        rows = home.find().given_draws[1, 4]
        ids = np.array(home.find().store("train").ids())[list(rows)]
        assert set(ids) == set(arrays["sample_ids"][drawn(arrays, 4, 1)])


def test_an_array_whose_name_only_begins_so_is_no_draw(
    arrays: Arrays, save: Save, home: Home
) -> None:
    import_npz(save(drawings=np.arange(3), drawn_by=np.array("Ann")), home)
    assert home.find().given_draws == {}


def test_rows_counted_within_train_get_a_fix_that_runs(
    arrays: Arrays, save: Save, home: Home
) -> None:
    wanted = drawn(arrays, 4, 1)
    within = np.searchsorted(np.flatnonzero(arrays["split"] == "train"), wanted)
    with pytest.raises(InputError, match="are not of split train") as caught:
        import_npz(save(draw_1_4=within), home)
    given = arrays | {"draw_1_4": within}
    exec(caught.value.fix, {"np": np}, given)
    np.testing.assert_array_equal(given["draw_1_4"], wanted)


def test_a_draw_of_another_name_is_not_left_out(arrays: Arrays, save: Save, home: Home) -> None:
    for name in ("draw_1", "draws", "draw_1_0", "Draw_1_4"):
        with pytest.raises(InputError, match="a draw is named draw_SEED_K"):
            import_npz(save(**{name: drawn(arrays, 4, 1)}), home)
    with pytest.raises(InputError, match="is the second draw of seed 1 and 4 shots"):
        import_npz(save(draw_1_4=drawn(arrays, 4, 1), draw_01_4=drawn(arrays, 4, 2)), home)


def test_damaged_draws_are_said_and_made_anew(arrays: Arrays, save: Save, home: Home) -> None:
    file = save(**draws(arrays))
    import_npz(file, home)
    kept = home.dataset_folder("npz/toys") / DRAWS_FILE
    whole = kept.read_text()
    for text in (
        whole.replace("[", "[0, ", 1),
        "{}",
        "not JSON",
        re.sub(r'"train": "..', "", whole),
    ):
        kept.write_text(text)
        with pytest.raises(StoreError) as caught:
            fit(Request(("nearest-mean",), (4,)), home.find(), home)
        assert str(kept) in caught.value.where
        assert caught.value.fix.startswith(f"rm {kept}")
    kept.unlink()
    import_npz(file, home)
    assert kept.read_text() == whole


def test_a_draw_that_lost_a_class_to_a_correction_is_refused(
    arrays: Arrays, save: Save, home: Home
) -> None:
    import_npz(save(draw_1_1=drawn(arrays, 1, 1)), home)
    file = home.labels_file("npz/toys")
    content = json.loads(file.read_text())
    row = home.find().given_draws[1, 1][1]
    content["splits"]["train"]["labels"][row] = 0
    file.write_text(json.dumps(content))
    with pytest.raises(CacheclipError, match="does not fit: no picture of 1 of 3 classes: "):
        fit(Request(("nearest-mean",), (1,)), home.find(), home)


def test_draws_of_the_same_pictures_are_said(arrays: Arrays, save: Save, home: Home) -> None:
    same = drawn(arrays, 4, 1)
    import_npz(save(draw_1_4=same, draw_2_4=same[::-1], draw_3_4=same), home)
    comparison = Comparison(Request(("nearest-mean",), (4,), (1, 2, 3)), home.find(), home)
    assert comparison.notices[0] == (
        "all draws of --shots 4 are the same pictures: these 3 seeds differ in starts alone"
    )


def test_a_pool_that_is_one_draw_is_said(save: Save, home: Home) -> None:
    import_npz(save(), home)  # six train rows a class
    request = Request(("nearest-mean",), (4, 6), (1, 2, 3))
    comparison = Comparison(request, home.find(), home)
    assert comparison.notices == [
        "all draws of --shots 6 are the same pictures: these 3 seeds differ in starts alone"
    ]
    alone = Comparison(Request(("nearest-mean",), (6,), (1,)), home.find(), home)
    assert alone.notices == []


def test_the_command_that_comes_next_has_the_seeds_there_are() -> None:
    assert common_seeds([(1, 1), (2, 1), (3, 1), (1, 16), (2, 16)]) == ([1, 16], 2)
    assert common_seeds([(1, 1), (3, 1), (5, 4)]) == ([1], 1)
    assert common_seeds([(5, 4)]) == ([], 0)
    assert common_seeds([]) == ([], 0)
