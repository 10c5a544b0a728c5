"""Whose support sets a study learns from, on a small home: ours, CoOp's, or a file's."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import cacheclip as library
from cacheclip.draws import coop
from cacheclip.errors import InputError, UsageError
from cacheclip.results import Row
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from tests.makers import build_home, cacheclip


def made(home: Home, draw: str | Path | None, shots: int = 2, seeds: tuple[int, ...] = (1,)) -> Any:
    request = Request(
        ("nearest-mean", "zero-shot"), (shots,), seeds, draw=None if draw is None else str(draw)
    )
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return comparison


def kept(home: Home, row: Row) -> Path:
    return home.root / "draws" / f"{row.draw_id}.json"


def test_coop_rows_learn_from_its_pictures_and_are_rows_of_their_own(home: Home) -> None:
    ours, zero_shot = made(home, None).rows
    theirs, again = made(home, "coop").rows
    assert (ours.draw, theirs.draw) == ("ranked", "coop")
    assert ours.row_id != theirs.row_id
    assert again.row_id == zero_shot.row_id  # it draws nothing
    data = made(home, "coop").data
    names = data.classnames
    draw = coop(data.pool("train"), data.pool("val"), names, 2, 1, where="")
    assert json.loads(kept(home, theirs).read_text())["support"] == list(draw.support_ids)
    assert made(home, "coop").reused == 2
    assert (
        library.compare("nearest-mean", library.load(home=home), shots=2, seeds=1, draw="coop")
        .rows[0]
        .draw_id
        == theirs.draw_id
    )


def test_a_kept_draw_is_a_file_of_draws(home: Home, tmp_path: Path) -> None:
    ours, _ = made(home, None).rows
    again, _ = made(home, kept(home, ours)).rows
    assert (again.draw, again.draw_id) == ("file", ours.draw_id)
    assert again.top1_test == ours.top1_test
    head = library.fit(
        "nearest-mean", library.load(home=home), shots=2, seed=1, draw=kept(home, ours)
    )
    assert head.row is not None
    assert head.row.draw_id == ours.draw_id
    both = tmp_path / "both.json"
    rows = made(home, None, seeds=(1, 2)).rows[:2]
    both.write_text(json.dumps([json.loads(kept(home, row).read_text()) for row in rows]))
    assert [row.draw_id for row in made(home, both, seeds=(1, 2)).rows[:2]] == [
        row.draw_id for row in rows
    ]


def test_what_is_not_in_the_file_is_refused_with_what_is(home: Home) -> None:
    ours, _ = made(home, None).rows
    file = kept(home, ours)
    with pytest.raises(
        InputError, match="1 draw is not in this file: seed 1 with 4 shots"
    ) as caught:
        made(home, file, shots=4)
    assert "has 2 shots: seed 1" in caught.value.where
    assert caught.value.fix.endswith(f"--shots 2 --seeds 1 --draw {file}")
    for draw in ("shuffled", "no/such.json"):
        with pytest.raises(UsageError, match=f"no --draw {draw}"):
            made(home, draw)
        with pytest.raises(UsageError, match=f'no draw="{draw}", and no such file'):
            library.fit("nearest-mean", library.load(home=home), draw=draw)


RECORD = {"seed": 1, "shots": 2, "support": ["train/0/0.png"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "no file of draws"),
        (json.dumps({"seed": 1}), "needs a seed and shots"),
        (json.dumps(RECORD | {"support": [7]}), "are no list of ids"),
        (json.dumps(RECORD | {"val": "x"}), "are no list of ids"),
        (json.dumps([RECORD, RECORD]), "stands there twice"),
        (json.dumps(RECORD), "has no picture of 3 of 4 classes"),
    ],
)
def test_a_file_that_is_none_of_draws_says_why(
    home: Home, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "draws.json"
    file.write_text(content)
    got = cacheclip(
        *("fit", "--method", "nearest-mean", "--shots", "2", "--home", home.root, "--draw", file)
    )
    assert got.code == InputError.exit_code
    assert said in got.err


def test_coop_draws_among_all_pictures_and_refuses_those_without_features(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (draw,) = made(home, "coop").draws[2]
    left = next(row for row in range(24) if row not in draw.support)
    failing = {left: "broken"}
    monkeypatch.setattr(
        type(home.find()), "failures", lambda self, split: failing if split == "train" else {}
    )
    (again,) = made(home, "coop").draws[2]
    assert again.support == draw.support  # the stream does not shift
    failing[draw.support[0]] = "broken"
    row, _ = made(home, "coop").rows
    assert "takes pictures that could not be encoded: train/" in row.error


def test_the_record_of_the_document_is_read_and_names_its_ids(home: Home, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "draws.md").read_text()
    (shown,) = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "draws.json"
    file.write_text(shown)
    row, _ = made(home, file).rows
    assert "no features or no label here: train/ant/1.png, train/bee/7.png" in row.error


def test_coop_needs_no_validation_split(tmp_path: Path) -> None:
    row, _ = made(build_home(tmp_path / "home", val=0), "coop").rows
    assert (row.error, row.n_train) == (None, 8)


def test_the_fix_of_a_fit_is_a_fit_and_that_of_a_comparison_keeps_its_methods(home: Home) -> None:
    ours, *_ = made(home, None, seeds=(3,)).rows
    file = kept(home, ours)
    got = cacheclip(
        *("fit", "--method", "nearest-mean", "--shots", "4", "--home", home.root, "--draw", file)
    )
    assert f"--method nearest-mean --shots 2 --seed 3 --draw {file}" in got.err
    assert got.err.rstrip().endswith(f"--draw {file} --home {home.root}")
    with pytest.raises(InputError) as caught:
        library.fit("nearest-mean", library.load(home=home), shots=4, draw=file)
    assert (
        f'cacheclip.fit("nearest-mean", data, shots=2, seed=3, draw="{file}")' in caught.value.fix
    )
    first, *_ = made(home, None).rows
    with pytest.raises(InputError) as caught:
        made(home, kept(home, first), shots=4)
    assert "--methods nearest-mean,zero-shot --shots 2" in caught.value.fix


def test_a_draw_of_test_pictures_says_of_which_split_they_are(home: Home, tmp_path: Path) -> None:
    ours, *_ = made(home, None).rows
    record = json.loads(kept(home, ours).read_text())
    stray = home.find().store("test").ids()[0]
    file = tmp_path / "draws.json"
    file.write_text(json.dumps(record | {"support": [stray, *record["support"][1:]]}))
    comparison = made(home, file)
    assert f"names pictures of split test: {stray}" in str(comparison.rows[0].error)


@pytest.mark.parametrize("option", [("--final",), ("--out", "z.safetensors")])
def test_options_of_a_bundle_are_refused_where_none_is_left(
    home: Home, option: tuple[str, ...]
) -> None:
    words = ("fit", "--method", "tda", "--shots", "2", "--home", home.root)
    got = cacheclip(*words, *option)
    assert got.code == UsageError.exit_code
    assert "tda leaves no bundle" in got.err
    assert f"leave {option[0]} out" in got.err
    assert not Path("z.safetensors").exists()


def test_the_fix_says_again_how_the_methods_were_to_be_run(home: Home) -> None:
    ours, *_ = made(home, None).rows
    file = kept(home, ours)
    how = {"clip-adapter": {"alpha": [0.5, 0.7]}}
    asked = Request(("clip-adapter",), (4,), (1,), "fewshot-val", how, "as-code", draw=str(file))
    with pytest.raises(InputError) as caught:
        Comparison(asked, home.find())
    words = shlex.split(caught.value.fix.partition("or: ")[2])
    assert words == [
        *("cacheclip", "compare", "--dataset", "toys", "--model", "toy", "--pretrained", "v1"),
        *("--select", "fewshot-val", "--recipe", "as-code", "--set", "clip-adapter.alpha=0.5,0.7"),
        *("--methods", "clip-adapter", "--shots", "2", "--seeds", "1", "--draw", str(file)),
    ]
    with pytest.raises(InputError) as caught:
        library.fit(
            *("clip-adapter", library.load(home=home)),
            shots=4,
            draw=file,
            select="fixed",
            alpha=0.5,
        )
    assert caught.value.fix.endswith(f'draw="{file}", select="fixed", alpha=0.5)')
