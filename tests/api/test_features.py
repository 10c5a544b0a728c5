"""Features from arrays: what is taken, what is refused and how, and that test labels stay shut."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cacheclip
from cacheclip.errors import InputError, ProtocolError, StoreError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.features import Features, load, rows_of
from cacheclip.methods import base as methods
from cacheclip.store.home import Home
from cacheclip.study.data import SetData
from tests.makers import build_home

NAMES = np.array(["ant", "bee", "cow", "doe", "eel"])


def test_arrays_of_every_kind_are_the_same_features(arrays: dict[str, Any]) -> None:
    X, y, split = (arrays[name] for name in ("X", "y", "split"))
    plain = Features.of(X, y, split=split)
    tensors = Features.of(torch.tensor(X), torch.tensor(y), split=split.tolist())
    lists = Features.of(X.tolist(), y.tolist(), split=split.astype(object))
    masks = {name: split == name for name in ("train", "val", "test")}
    by_split = Features.of(
        {name: X[mask] for name, mask in masks.items()},
        {name: y[mask] for name, mask in masks.items()},
        ids={name: np.flatnonzero(mask) for name, mask in masks.items()},
    )
    for other in (tensors, lists, by_split):
        for name in ("train", "val", "test"):
            mine, theirs = getattr(plain, name), getattr(other, name)
            np.testing.assert_array_equal(mine.X, theirs.X)
            assert mine.ids == theirs.ids
        np.testing.assert_array_equal(plain.train.y, other.train.y)
    assert plain.splits == ["train", "val", "test"]
    np.testing.assert_array_equal(plain.train.X, X[split == "train"].astype(np.float32))
    half = Features.of(X.astype(np.float16), y, split=split)
    np.testing.assert_array_equal(half.test.X, X[split == "test"].astype(np.float16))
    brain = Features.of(torch.tensor(X).bfloat16(), y, split=split)
    np.testing.assert_array_equal(
        brain.train.X, torch.tensor(X).bfloat16().float().numpy()[split == "train"]
    )


def test_answers_are_of_the_kind_that_labels_were(arrays: dict[str, Any]) -> None:
    X, y = arrays["X"], arrays["y"]
    assert Features.of(X, y).classes.tolist() == [0, 1, 2, 3, 4]
    assert Features.of(X, y, classnames=NAMES).classes.tolist() == [0, 1, 2, 3, 4]
    named = Features.of(X, NAMES[y])
    assert named.classes.tolist() == named.classnames == NAMES.tolist()
    np.testing.assert_array_equal(named.train.y, NAMES[y])


def test_test_labels_are_handed_out_by_nothing_but_the_score(data: Features) -> None:
    assert len(data.test.X) == len(data.test) == 30
    with pytest.raises(ProtocolError, match="sealed"):
        data.test.y  # noqa: B018
    held = SetData(data.source, torch.device("cpu"), 10**8)
    with pytest.raises(ProtocolError, match="before the score"):
        held.pool("test")
    assert len(held.open_test_labels()) == 30
    rooms = Path(cacheclip.__file__).parent.rglob("*.py")
    openers = {path.name for path in rooms if "open_test_labels()" in path.read_text()}
    assert openers == {"score.py", "data.py"}  # the score, and the refit after it


def test_features_cost_no_torch() -> None:
    code = (
        "import sys, cacheclip\n"
        "data = cacheclip.Features.of([[1.0, 2.0], [2.0, 1.0]], [0, 1])\n"
        "assert data.train.X.shape == (2, 2) and cacheclip.load\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arrays_and_their_import_are_the_same_set(arrays: dict[str, Any], tmp_path: Path) -> None:
    own = {"features": "X", "labels": "y", "text_features": "text"}
    file = {name: arrays[own.get(name, name)] for name in (*own, "split", "logit_scale")}
    np.savez(tmp_path / "toys.npz", **file)
    home = Home(tmp_path / "home")
    import_npz(tmp_path / "toys.npz", home)
    there, here = load("toys", home=home), Features.of(**arrays, name="toys")
    assert repr(there) == repr(here)
    assert here.source.labels.digest == there.source.labels.digest
    assert here.text is not None
    np.testing.assert_array_equal(here.text, there.text)
    mine, theirs = (
        SetData(one.source, torch.device("cpu"), 10**8).stores(
            methods.get("tip-adapter")().reads, ["train", "val", "test"]
        )
        for one in (here, there)
    )
    assert mine == theirs
    for split in here.splits:
        one, other = here.source.store(split), there.source.store(split)
        rows = [3, 0, 5]
        for normalize in (True, False):
            mine_, theirs_ = (s.read_rows(rows, normalize=normalize) for s in (one, other))
            np.testing.assert_array_equal(mine_.features, theirs_.features)
            np.testing.assert_array_equal(mine_.norm, theirs_.norm)


def test_published_draws_come_along(arrays: dict[str, Any]) -> None:
    rows = [
        int(np.flatnonzero((arrays["y"] == c) & (arrays["split"] == "train"))[2]) for c in range(5)
    ]
    data = Features.of(**arrays, draws={(1, 1): rows})
    (given,) = data.source.given_draws.values()
    assert [data.train.ids[row] for row in given] == [str(row) for row in rows]


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "rows": ({"y": np.zeros(7, int)}, "y: its shape", "y [N]"),
    "turned": ({"X": np.ones((16, 150))}, "a column each", "X = X.T"),
    "from 1": ({"y": np.arange(150) % 5 + 1, "text": None}, "count from 1", "y = y - 1"),
    "one-hot": ({"y": np.eye(5)[np.arange(150) % 5]}, "one-hot", "y = y.argmax(1)"),
    "no scale": ({"logit_scale": None}, "not the scale", "logit_scale=100"),
    "log scale": ({"logit_scale": 4.6}, "log of the scale", "logit_scale = np.exp(logit_scale)"),
    "bool": ({"X": np.ones((150, 16), bool)}, "X: bool", "X = X.astype(np.float32)"),
    "nan": ({"X": np.full((150, 16), np.nan)}, "are not finite", "X, y, split = X[keep]"),
    "numbers": ({"split": np.arange(150) % 2}, "split: int64", "split = np.where(split == "),
    "ragged": ({"X": [[1.0, 2.0], [1.0]]}, "X: no array", "X = np.array(X)"),
    "of another": ({"text": np.ones((5, 9))}, "another encoder", "text [5, 16]"),
    "twice": ({"ids": ["a"] * 150}, "more than once", "ids = np.array("),
    "names": ({"y": NAMES[np.arange(150) % 5]}, "no classnames", "classnames = np.unique(y)"),
    "half": ({"X": {"train": np.ones((150, 16))}}, "one array a split", 'y = {"train": y_train'),
    "set": ({"name": "a/b"}, "cannot be the name", "letters"),
}


@pytest.mark.parametrize(("changes", "what", "fix"), FAULTS.values(), ids=list(FAULTS))
def test_a_mistake_is_named_with_a_line_that_mends_it(
    changes: dict[str, Any], what: str, fix: str, arrays: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as caught:
        Features.of(**(arrays | changes))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert len(str(caught.value).splitlines()) == 3


def test_a_fix_runs_as_printed(arrays: dict[str, Any]) -> None:
    wrong = arrays | {"X": arrays["X"].copy()}
    wrong["X"][4] = np.nan
    with pytest.raises(InputError) as caught:
        Features.of(**wrong)
    exec(caught.value.fix, {"np": np}, wrong)
    names = ("X", "y", "split", "text", "logit_scale")
    assert len(Features.of(**{name: wrong[name] for name in names}).train) == 89


NAMED: Any = NAMES[np.arange(150) % 5].astype(object)
NONE: Any = None  # which NumPy takes, and its types do not know
GAPS: dict[str, tuple[Any, str]] = {
    "none": (np.where(np.arange(150) == 3, NONE, NAMED), "1 of 150 labels are missing: None"),
    "nan": (np.where(np.arange(150) == 3, np.nan, NAMED), "1 of 150 labels are missing: nan"),
    "list": ([float("nan"), *NAMED[1:]], "1 of 150 labels are missing: nan"),
    "mixed": (np.where(np.arange(150) == 3, 1, NAMED), "such as 'ant' and 1"),
    "mixed list": ([1, *NAMED[1:]], "such as 'bee' and 1"),
    "numbers": (np.where(np.arange(150) == 3, NONE, np.arange(150) % 5), "are missing: None"),
    "floats": ([float("nan"), *(np.arange(149) % 5.0)], "not whole numbers: nan in 1 rows"),
}


@pytest.mark.parametrize(("y", "what"), GAPS.values(), ids=list(GAPS))
@pytest.mark.parametrize("listed", [False, True])
def test_missing_and_mixed_labels_are_left_out_by_the_fix(
    y: Any, what: str, listed: bool, arrays: dict[str, Any]
) -> None:
    own = {"X": arrays["X"].tolist() if listed else arrays["X"], "y": y, "ids": np.arange(150)}
    with pytest.raises(InputError) as caught:
        Features.of(**own)
    assert what in caught.value.what
    exec(caught.value.fix, {"np": np}, own)
    kept = Features.of(own["X"], own["y"], ids=own["ids"])
    assert (len(kept.train), len(kept.classes)) == (149, 5)


def test_missing_labels_of_one_split_are_named(arrays: dict[str, Any]) -> None:
    X, gap = arrays["X"], np.where(np.arange(150) == 3, NONE, NAMED)
    with pytest.raises(InputError, match="y_test: 1 of 150") as caught:
        Features.of({"train": X, "test": X}, {"train": NAMED, "test": gap})
    own = {"X_test": X, "y_test": gap}
    exec(caught.value.fix, {"np": np}, own)
    X_test, y_test = own["X_test"], own["y_test"]
    assert len(Features.of({"train": X, "test": X_test}, {"train": NAMED, "test": y_test}).test) > 0


@pytest.mark.parametrize("draws", [{1: [0]}, {"1_2": [0]}, {("a", 2): [0]}, {(-1, 2): [0]}, [[0]]])
def test_draws_stand_under_seed_and_shots(draws: Any, arrays: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"under \(seed, shots\)") as caught:
        Features.of(**arrays, draws=draws)
    exec(caught.value.fix, {"rows": [0]})


def test_whole_numbers_are_features(arrays: dict[str, Any]) -> None:
    X = np.round(arrays["X"] * 10).astype(np.int64)
    whole = Features.of(**(arrays | {"X": X, "text": np.round(arrays["text"] * 9).astype(int)}))
    floats = Features.of(X.astype(np.float32), arrays["y"], split=arrays["split"])
    np.testing.assert_array_equal(whole.train.X, floats.train.X)
    assert whole.text is not None
    assert whole.text.dtype == np.float32


def test_a_split_that_is_not_there_is_said(arrays: dict[str, Any]) -> None:
    whole = Features.of(arrays["X"], arrays["y"])
    assert whole.splits == ["train"]
    with pytest.raises(InputError, match="no split test"):
        whole.test  # noqa: B018


@pytest.mark.parametrize("bad", ["abc", np.ones((2, 3)), np.zeros((2, 16)), [[np.inf] * 16]])
def test_rows_to_be_classified_are_checked(bad: Any) -> None:
    with pytest.raises(InputError):
        rows_of(bad, 16)


S = np.random.default_rng(1).normal(size=(5, 3, 16))  # sentences of the classes of `arrays`
NONE_OF_TWO = np.where(np.arange(5)[:, None, None] == 2, 0, S)


@pytest.mark.parametrize(
    ("sentences", "what", "fix"),
    [
        (S[0], "sentences: its shape is [3, 16]: its axes", "sentences [5, S, 16]"),
        (S[:2], "2 classes, not the 5 of text", "sentences [5, S, 16]"),
        (S[..., :4], "4 numbers a row, not the 16 of text", "sentences [5, S, 16]"),
        (NONE_OF_TWO, "classes without any: c", "rows sentences[2]"),
        ({"a": ["an ant"]}, "texts, where their features are needed", "text tower"),
        ([["an ant"], ["a bee", "one more"]], "texts, where their features", "text tower"),
    ],
)
def test_sentences_that_do_not_fit_say_what_would(
    arrays: dict[str, Any], sentences: Any, what: str, fix: str
) -> None:
    with pytest.raises(InputError) as caught:
        Features.of(**arrays, classnames=list("abcde"), sentences=sentences)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_sentences_without_text_ask_for_text_by_the_argument_s_name() -> None:
    with pytest.raises(InputError, match="beside text, which are missing") as caught:
        Features.of(np.eye(4), [0, 0, 1, 1], sentences=S)
    assert "text_features" not in str(caught.value)


def test_load_names_its_own_arguments(tmp_path: Path) -> None:
    home = build_home(tmp_path / "home")
    name = home.find().dataset
    with pytest.raises(StoreError) as caught:
        load(f"{name}z", home=home)
    assert f'did you mean dataset="{name}"?' in caught.value.fix
    with pytest.raises(StoreError) as caught:
        load(name, "no-such", home=home)
    assert caught.value.fix.startswith('model="')
