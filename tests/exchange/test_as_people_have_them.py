"""Arrays as people have them: taken where the meaning is certain, else named with a fix that runs.

The fix is a line of Python over the names of the arrays, and a test runs it as it stands.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.errors import InputError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.store.home import Home

CLASSES, DIM, EACH = 5, 32, 20
NAMES = np.array(["ant", "bee", "cat", "dog", "eel"])
Given = dict[str, Any]


def whole() -> Given:
    """Arrays that are as they should be: 12 rows a class for training, 8 for test."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, DIM))
    labels = np.repeat(np.arange(CLASSES), EACH)
    return {
        "features": (centres[labels] + random.normal(size=(100, DIM))).astype(np.float32),
        "labels": labels,
        "split": np.array((["train"] * 12 + ["test"] * 8) * CLASSES),
        "text_features": centres.astype(np.float32),
        "logit_scale": np.array(100.0),
        "classnames": NAMES,
    }


def changed(*without: str, **changes: Any) -> Given:
    return {n: x for n, x in (whole() | changes).items() if n not in without}


TEXT = ("text_features", "logit_scale", "classnames")
GOOD = whole()
X, Y, S, T = (GOOD[name] for name in ("features", "labels", "split", "text_features"))
PATTERN = np.where(np.arange(100) % 10 == 0, "val", S)


@pytest.fixture
def bring(tmp_path: Path) -> Callable[..., Any]:
    """Import arrays into a home of their own: the report and the labels."""

    def run(given: Given, name: str = "mine") -> Any:
        np.savez(tmp_path / f"{name}.npz", **given)
        home = Home(tmp_path / f"home-{name}")
        report = import_npz(tmp_path / f"{name}.npz", home)
        return report, home.find()

    return run


def refused(bring: Callable[..., Any], given: Given, name: str = "mine") -> InputError:
    with pytest.raises(InputError) as caught:
        bring(given, name)
    return caught.value


TAKEN: list[tuple[str, Given]] = [
    ("floats", changed(labels=Y.astype("f4"))),
    ("small integers", changed(labels=Y.astype("u1"))),
    ("a column", changed(labels=Y[:, None])),
    ("a row", changed(labels=Y[None])),
    ("names", changed(labels=NAMES[Y])),
    ("names as bytes", changed(labels=NAMES[Y].astype("S3"))),
    ("a column of names", changed(labels=NAMES[Y][:, None])),
    ("names without classnames", changed(*TEXT, labels=NAMES[Y])),
    ("columns of Fortran", changed(features=np.asfortranarray(X.astype("f8")))),
    ("one token a row", changed(features=X[:, None])),
    ("split as bytes", changed(split=S.astype("S5"))),
    ("split as a column", changed(split=S[:, None])),
    ("other words", changed(split=np.where(S == "train", "Training", "Test set"))),
]


@pytest.mark.parametrize("given", [given for _, given in TAKEN], ids=[name for name, _ in TAKEN])
def test_what_can_mean_one_thing_is_taken(given: Given, bring: Callable[..., Any]) -> None:
    _, found = bring(given)
    assert list(found.labels.classnames) == list(NAMES)
    for split in ("train", "test"):
        assert list(found.labels.splits[split].labels) == Y[split == S].tolist()
        got = found.store(split).load(normalize=False).features
        np.testing.assert_array_equal(got, X[split == S])


def test_words_for_validation_are_taken_and_said(bring: Callable[..., Any]) -> None:
    for k, word in enumerate(("validation", "valid", "Val", "dev", "development_set", "eval")):
        if word == "development_set":
            continue
        report, found = bring(changed(split=np.where(PATTERN == "val", word, PATTERN)), f"s{k}")
        assert f"split: read {word} as val" in report.notices
        assert report.splits == {"train": 50, "val": 10, "test": 40}
        assert found.store("val").rows == 10


def test_numbers_in_names_sort_as_numbers(bring: Callable[..., Any]) -> None:
    _, found = bring(changed(*TEXT, labels=np.char.add("c", (Y * 5).astype(str))))
    assert list(found.labels.classnames) == ["c0", "c5", "c10", "c15", "c20"]


PARTS: list[dict[str, str]] = [
    {"train_features": "train", "test_features": "test"},
    {"X_train": "train", "X_test": "test"},
    {"Xtrain": "train", "Xtest": "test"},
    {"train/features": "train", "test/features": "test"},
    {"x_train": "train", "x_val": "val", "x_test": "test"},
    {"features_train": "train", "features_valid": "val", "features_test": "test"},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: next(iter(parts)))
def test_parts_are_joined(parts: dict[str, str], bring: Callable[..., Any]) -> None:
    splits = PATTERN if len(parts) == 3 else S
    given: Given = {}
    for name, split in parts.items():
        given[name] = X[splits == split]
        given[name.replace("features", "labels").replace("X", "y").replace("x", "y")] = Y[
            splits == split
        ]
    report, found = bring(given)
    assert report.notices[0].startswith("joined split by split: ")
    for split in parts.values():
        assert list(found.labels.splits[split].labels) == Y[splits == split].tolist()
        got = found.store(split).load(normalize=False).features
        np.testing.assert_array_equal(got, X[splits == split])


def parted(**changes: Any) -> Given:
    train, test = S == "train", S == "test"
    given = {"X_train": X[train], "y_train": Y[train], "X_test": X[test], "y_test": Y[test]}
    return {name: x for name, x in (given | changes).items() if x is not None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (parted(y_test=None), "X_test has no labels of the same split"),
        (parted(X_test=None), "y_test has no features of the same split"),
        (parted(y_test=Y[:7]), "y_test has [7], and X_test has 40 rows"),
        (parted(X_test=X[:40, :8]), "the parts of features do not fit together"),
        (parted(y_test=NAMES[Y[:40]]), "the parts of labels do not fit together"),
        (parted(test_features=X[:40]), "two arrays are the same part: X_test and test_features"),
    ],
)
def test_parts_that_do_not_go_together_are_named(
    given: Given, said: str, bring: Callable[..., Any]
) -> None:
    assert said in refused(bring, given).what


def with_row(x: Any, value: float) -> Any:
    x = x.copy()
    x[7, 3 if np.isnan(value) else slice(None)] = value
    return x


ONE_HOT = np.eye(CLASSES)[Y]
OBJECTS = np.empty(100, object)
OBJECTS[:] = list(X)
SOME = np.arange(CLASSES) * 100 + 7  # numbers with gaps

# What is given, what is said, and whether the labels are those of `whole` after the fix.
FIXED: list[tuple[str, Given, str, bool]] = [
    ("one-hot", changed(labels=ONE_HOT), "labels: one-hot, [100, 5]", True),
    ("one-hot columns", changed(labels=ONE_HOT.T.astype(bool)), "labels: one-hot, [5, 100]", True),
    ("probabilities", changed(labels=ONE_HOT * 0.9 + 0.02), "labels: probabilities", True),
    ("scores", changed(labels=ONE_HOT * 3.5), "labels: scores", True),
    (
        "multi-label",
        changed(*TEXT, labels=(ONE_HOT + np.eye(CLASSES)[(Y + 1) % CLASSES]) > 0),
        "labels: multi-label, [100, 5]: 100 of 100 rows have none or several",
        False,
    ),
    (
        "some rows of two classes",
        changed(labels=np.where(np.arange(100)[:, None] % 20 == 19, 1, ONE_HOT)),
        "labels: multi-label, [100, 5]: 5 of 100 rows",
        False,
    ),
    ("label columns", changed(labels=np.stack([Y, Y // 2], 1)), "a row has one label", True),
    ("from 1, by names", changed(labels=Y + 1), "label 5, and 5 classes (0 to 4): they coun", True),
    ("from 1, by text", changed("classnames", labels=Y + 1), "they count from 1", False),
    ("from 1, alone", changed(*TEXT, labels=Y + 1), "labels from 1 to 5, and none is 0", False),
    ("gaps, with names", changed(labels=SOME[Y]), "label 407, and 5 classes", True),
    ("gaps, alone", changed(*TEXT, labels=SOME[Y]), "labels from 7 to 407 of 100 rows", False),
    (
        "unlabelled",
        changed(labels=np.where(np.arange(100) % 20 == 0, -1, Y)),
        "labels from -1 to 4: 5 rows are below 0",
        False,
    ),
    ("signs", changed(*TEXT, labels=np.where(Y > 1, 1, -1)), "labels from -1 to 1", False),
    (
        "not a number",
        changed(labels=np.where(np.arange(100) % 20 == 0, np.nan, Y)),
        "float64 and not whole numbers: nan",
        False,
    ),
    ("no name", changed(*TEXT, labels=np.where(Y == 0, "", NAMES[Y])), "an empty label", False),
    ("names of others", changed(*TEXT[:2], labels=np.char.upper(NAMES[Y])), "are no cla", False),
    ("names and text", changed("classnames", labels=NAMES[Y]), "no classnames say which", False),
    ("number texts, named", changed(labels=Y.astype(str)), "are no classnames: 0, 1", True),
    ("number texts", changed("classnames", labels=Y.astype(str)), "no classnames say", False),
    (
        "class without training",
        changed(*TEXT[:2], split=np.where(Y == 2, "test", S)),
        "labels: 1 of 5 classes have no row of split train: cat",
        False,
    ),
    (
        "class without a row",
        changed(*TEXT[:2], classnames=np.array([*NAMES, "fox"])),
        "labels: 1 of 5 classes have no row of split train: fox".replace("5", "6"),
        False,
    ),
    (
        "named class without training",
        changed(*TEXT[:2], labels=NAMES[Y], split=np.where(Y == 2, "test", S)),
        "labels: 1 of 5 classes have no row of split train: cat",
        False,
    ),
    (
        "tokens",
        changed(features=np.repeat(X[:, None], 3, 1)),
        "patches or tokens, [100, 3, 3",
        True,
    ),
    ("pixels", changed(*TEXT, features=X.reshape(100, 4, 8, 1)), "pixels, [100, 4, 8, 1]", True),
    ("maps", changed(features=np.ones((100, 32, 2, 2), "f4") * X[:, :, None, None]), "maps", True),
    ("turned", changed(features=X.T), "features: its shape is [32, 100]", True),
    ("whole numbers", changed(features=(X * 99).astype(int)), "features: int64 and not flo", True),
    ("nan", changed(features=with_row(X, np.nan)), "1 of 100 rows are not finite: 7", False),
    ("zeros", changed(features=with_row(X, 0)), "1 of 100 rows have no length: 7", False),
    ("0 and 2", changed(split=np.where(S == "train", 0, 2)), "int64 and not texts: 0 in 60", True),
    (
        "0, 1 and 2",
        changed(split=np.select([PATTERN == "train", PATTERN == "val"], [0, 1], 2)),
        "int64 and not texts: 0 in 50 rows, 1 in 10 rows, 2 in 40 rows",
        False,
    ),
    (
        "1, 2 and 3",
        changed(split=np.select([PATTERN == "train", PATTERN == "val"], [1.0, 2.0], 3.0)),
        "float64 and not texts: 1.0 in 50 rows",
        False,
    ),
    ("bool", changed(split=S == "train"), "bool and not texts: False in 40", True),
    ("bool of test", changed(split=S == "test"), "bool and not texts", True),
    ("0 and 1", changed(split=(S == "train").astype(int)), "int64 and not texts", True),
    ("folds", changed(split=np.arange(100) % 5), "int64 and not texts", False),
    ("one number", changed(split=np.zeros(100)), "float64 and not texts", False),
    ("only train", changed(split=np.full(100, "train")), "split: no row is test", False),
    ("only test", changed(split=np.full(100, "test")), "split: no row is train", False),
    (
        "no test, but validation",
        changed(split=np.where(S == "test", "validation", "training")),
        "split: no row is test, and validation is for the choice",
        True,
    ),
    (
        "no test, but validation in bytes",
        changed(split=np.where(S == "test", "val", S).astype("S5")),
        "split: no row is test, and val is",
        True,
    ),
    ("a word", changed(split=np.where(S == "test", "query", S)), "no such split: query", True),
    (
        "a word more",
        changed(split=np.where(np.arange(100) % 10 == 0, "extra", S)),
        "no such split: extra",
        False,
    ),
    ("no split", changed("split"), "an array is missing: split", False),
    (
        "rows of the splits",
        changed("split", train_idx=np.flatnonzero(S == "train"), test_mask=S == "test"),
        "an array is missing: split",
        True,
    ),
    (
        "no names",
        {"arr_0": X, "arr_1": Y, "arr_2": S, "classnames": NAMES},
        "arrays are missing: features, labels, split",
        True,
    ),
    (
        "other names",
        {"X": X, "y": Y, "splits": S, "classnames": NAMES},
        "arrays are missing: features, labels, split",
        True,
    ),
    (
        "parts without test",
        {"X_train": X, "y_train": Y, "X_val": X[S == "test"], "y_val": Y[S == "test"]},
        "split: no row is test, and val is",
        False,
    ),
    (
        "prompts first",
        changed(text_features=np.stack([T, T, T])),
        "text_features: its shape is [3, 5, 32], and there are 5 classes",
        True,
    ),
    (
        "prompts first, without names",
        changed("classnames", text_features=np.stack([T] * 7)),
        "text_features: its shape is [7, 5, 32], and there are 5 classes",
        False,
    ),
    ("text turned", changed(text_features=T.T), "text_features: its shape is [32, 5]", True),
    ("log of the scale", changed(logit_scale=4.6052), "exp(4.605) = 100.0", True),
    ("log of another scale", changed(logit_scale=np.float32(2.6593)), "= 14.3", True),
    ("a temperature", changed(logit_scale=0.01), "1 / 0.01 = 100.0", True),
    ("names as numbers", changed(classnames=np.arange(5)), "classnames: int64 and not te", False),
    ("equal ids", changed(sample_ids=np.full(100, "a.jpg")), "1 ids stand there more th", True),
    (
        "objects",
        changed(split=S.astype(object)),
        "split cannot be read: it is an array of Py",
        True,
    ),
    ("object labels", changed(labels=Y.astype(object)), "labels cannot be read", True),
    ("object names", changed(labels=NAMES[Y].astype(object)), "labels cannot be read", True),
    ("object rows", changed(features=OBJECTS), "features cannot be read", True),
]


@pytest.mark.parametrize(
    ("given", "said", "same"), [own[1:] for own in FIXED], ids=[own[0] for own in FIXED]
)
def test_what_needs_a_word_is_named_and_its_fix_runs(
    given: Given, said: str, same: bool, bring: Callable[..., Any]
) -> None:
    error = refused(bring, given)
    assert said in error.what
    arrays = dict(given)
    exec(error.fix, {"np": np}, arrays)
    names = ("features", "labels", "split", "classnames", "text_features", "logit_scale")
    fixed = {name: arrays[name] for name in (*names, "sample_ids") if name in arrays}
    with np.errstate(all="ignore"):
        _, found = bring(fixed, "fixed")
    if same:
        assert list(found.labels.classnames) == list(NAMES) or "classnames" not in given
        for split in ("train", "test"):
            assert list(found.labels.splits[split].labels) == Y[split == S].tolist()


def test_text_of_another_width_is_named(bring: Callable[..., Any]) -> None:
    error = refused(bring, changed(text_features=T[:, :16]))
    assert "its rows have 16 numbers" in error.what
    assert "of another encoder" in error.what
    assert "[5, 32]" in error.fix


def test_classes_of_one_name_are_numbered(bring: Callable[..., Any]) -> None:
    names = np.array(["crane", "crane (2)", "crane", "maillot", "maillot"])
    report, found = bring(changed(classnames=names))
    wanted = ["crane", "crane (2)", "crane (3)", "maillot", "maillot (2)"]
    assert found.labels.classnames == wanted
    assert report.notices == ("classes of the same name are numbered: crane (3), maillot (2)",)
    error = refused(bring, changed(classnames=names, labels=names[Y]), "named")
    assert "two classes have one name: crane, maillot" in error.what


def test_an_id_may_stand_once_in_every_split(bring: Callable[..., Any]) -> None:
    ids = np.array([f"{np.sum(S[:k] == S[k])}.jpg" for k in range(100)])
    _, found = bring(changed(sample_ids=ids))
    assert found.store("train").ids()[:2] == found.store("test").ids()[:2] == ["0.jpg", "1.jpg"]


def test_bfloat16_which_npz_does_not_know_is_named(bring: Callable[..., Any]) -> None:
    error = refused(bring, changed(features=X.astype(np.float16).view("V2")))
    assert "bfloat16" in error.what
    assert error.fix == "features = features.astype(np.float32)"


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 0.0])
def test_a_scale_from_outside_is_checked_too(scale: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **changed("logit_scale"))
    with pytest.raises(InputError, match="is no scale above 0"):
        import_npz(tmp_path / "x.npz", Home(tmp_path / "home"), logit_scale=scale)
