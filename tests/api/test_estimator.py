"""The scikit-learn classifier: its own suite of checks, and the tools that people put it in."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from cacheclip.api.estimator import FewShotClassifier
from cacheclip.api.verbs import fit
from cacheclip.errors import StoreError, UsageError
from cacheclip.features import Features

WITHOUT = {"check_estimators_dtypes": "it gives rows of zeros, which have no direction"}


class Spoken(FewShotClassifier):
    """With texts that fit whatever arrays a check comes with: the mean of each class."""

    def fit(self, X: Any, y: Any) -> "Spoken":
        self._given = X, y
        super().fit(X, y)
        return self

    def _sorted_text(self) -> Any:
        X, y = np.asarray(self._given[0], float), np.asarray(self._given[1]).ravel()
        return [X[y == label].mean(0) for label in self.classes_]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        FewShotClassifier("nearest-mean"),
        Spoken("gda"),
        Spoken("tip-adapter-f"),
    ],
    ids=lambda model: model.method,
)
def test_the_checks_of_scikit_learn_pass(model: FewShotClassifier) -> None:
    failed = []
    for estimator, check in estimator_checks_generator(model):
        name = check.func.__name__
        try:
            check(estimator)
        except Exception as error:  # noqa: BLE001  (pytest.skip among them, of what is not installed)
            if "Skip" not in type(error).__name__:
                failed.append(f"{name}: {error}")
    assert [name for name in failed if name.split(":")[0] not in WITHOUT] == []


def test_it_is_the_head_of_all_rows(arrays: dict[str, Any]) -> None:
    X, y = arrays["X"], arrays["y"]
    text = {name: arrays[name] for name in ("text", "logit_scale")}
    head = fit("tip-adapter", Features.of(X, y, **text), shots="all", select="fixed", alpha=2.0)
    names = np.array(list("abcde"))
    model = FewShotClassifier("tip-adapter", **text, classes=names, alpha=2.0).fit(X, names[y])
    np.testing.assert_array_equal(model.decision_function(X), head.logits(X))
    for labels in (names, names[::-1]):
        model.set_params(classes=labels).fit(X, labels[y])
        np.testing.assert_array_equal(model.classes_, names)
        np.testing.assert_array_equal(model.predict(X), labels[head.predict(X)])
        assert model.score(X, labels[y]) == head.score(X, y)


def test_it_works_in_the_tools_of_scikit_learn(arrays: dict[str, Any]) -> None:
    X, y = arrays["X"], arrays["y"]
    text = {name: arrays[name] for name in ("text", "logit_scale")}
    model = FewShotClassifier("tip-adapter", **text, beta=5.5)
    scores = cross_val_score(make_pipeline(FunctionTransformer(), model), X, y, cv=3)
    assert scores.min() > 0.6
    search = GridSearchCV(model, {"alpha": [0.0, 1.0, 4.0]}, cv=3).fit(X, y)
    assert set(search.best_params_) == {"alpha"}
    assert search.best_estimator_.head_.settings["alpha"] == search.best_params_["alpha"]
    copy = clone(model.set_params(alpha=3.0))
    assert copy.get_params()["alpha"] == 3.0
    assert copy.get_params().keys() == model.get_params().keys()


def test_text_in_another_order_turns_no_probability_round(arrays: dict[str, Any]) -> None:
    two = arrays["y"] < 2
    X, y = arrays["X"][two], np.array(["bee", "ant"])[arrays["y"][two]]
    model = FewShotClassifier("zero-shot", text=arrays["text"][:2], classes=["bee", "ant"])
    plain = FewShotClassifier("zero-shot", text=arrays["text"][1::-1])
    for scoring in ("roc_auc", "neg_log_loss", "accuracy"):
        one, other = (cross_val_score(m, X, y, scoring=scoring, cv=3) for m in (model, plain))
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert cross_val_score(model, X, y, scoring="roc_auc", cv=3).min() > 0.8
    for text in (arrays["text"][:2].tolist(), torch.tensor(arrays["text"][:2])):
        again = clone(model).set_params(text=text).fit(X, y)
        np.testing.assert_array_equal(again.predict(X), model.fit(X, y).predict(X))


def test_numbers_for_names_are_positions_or_refused(arrays: dict[str, Any]) -> None:
    X, names = arrays["X"], np.array(list("abcde"))
    y, text = names[arrays["y"]], arrays["text"]
    model = FewShotClassifier("tip-adapter", text=text, classes=names)
    p = cross_val_predict(model, X, y, cv=3, method="predict_proba")
    plain = FewShotClassifier("tip-adapter", text=text)
    np.testing.assert_array_equal(p, cross_val_predict(plain, X, y, cv=3, method="predict_proba"))
    for voting in ("hard", "soft"):
        vote = VotingClassifier([("tip", model), ("mean", FewShotClassifier("nearest-mean"))])
        assert vote.set_params(voting=voting).fit(X, y).score(X, y) > 0.6
    own = {"np": np, "classes": names[::-1].tolist(), "text": text[::-1]}
    turned = FewShotClassifier("tip-adapter", text=own["text"], classes=own["classes"])
    with pytest.raises(ValueError, match="two orders") as caught:
        turned.fit(X, arrays["y"])
    exec(caught.value.fix, own)  # type: ignore[attr-defined]
    turned.set_params(text=own["text"], classes=own["classes"]).fit(X, arrays["y"])
    np.testing.assert_array_equal(turned.predict_proba(X), model.fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match="a number for each of the 5"):
        model.fit(X[:60], arrays["y"][:60])
    with pytest.raises(ValueError, match="2 of them are different"):
        FewShotClassifier(classes=["a", "a", "b"]).fit(X, y)
    with pytest.raises(ValueError, match="several kinds"):
        FewShotClassifier(classes=["a", None, "b"]).fit(X, y)
    with pytest.raises(ValueError, match="text"):
        FewShotClassifier("tip-adapter", text=3, classes=names).fit(X, y)


def test_candidates_are_for_grid_search(arrays: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="takes one") as caught:
        FewShotClassifier("linear-probe", C=[1, 10]).fit(arrays["X"], arrays["y"])
    model = FewShotClassifier("linear-probe")
    own = {"GridSearchCV": GridSearchCV, "model": model, "X": arrays["X"], "y": arrays["y"]}
    exec(caught.value.fix, own)  # type: ignore[attr-defined]


def test_missing_labels_are_refused(arrays: dict[str, Any]) -> None:
    names = np.array(list("abcde"), object)[arrays["y"]]
    names[3] = None
    for y in (names, [np.nan, *names[4:].tolist(), *"abc"]):
        with pytest.raises(ValueError, match="labels are missing") as caught:
            FewShotClassifier("nearest-mean").fit(arrays["X"], y)
        own = {"np": np, "X": arrays["X"], "y": y}
        exec(caught.value.fix, own)  # type: ignore[attr-defined]
        assert FewShotClassifier("nearest-mean").fit(own["X"], own["y"]).classes_.size == 5


def test_a_setting_or_method_that_is_none_is_refused(arrays: dict[str, Any]) -> None:
    model = FewShotClassifier()
    with pytest.raises(ValueError, match="Invalid parameter 'alfa'"):
        model.set_params(alfa=1)
    with pytest.raises(UsageError, match="no method 'tip'"):
        FewShotClassifier("tip").fit(arrays["X"], arrays["y"])
    with pytest.raises(ValueError, match="not among classes"):
        FewShotClassifier(classes=[0, 1]).fit(arrays["X"], arrays["y"])


def test_sentences_follow_the_classes_as_text_does(arrays: dict[str, Any]) -> None:
    X, y, text = arrays["X"], np.array(list("abcde"))[arrays["y"]], arrays["text"]
    sentences = text[:, None] + np.random.default_rng(1).normal(size=(5, 3, text.shape[1]))
    plain = FewShotClassifier("cupl", text=text, sentences=sentences).fit(X, y)
    turned = FewShotClassifier(
        "cupl", text=text[::-1], sentences=sentences[::-1], classes=list("edcba")
    ).fit(X, y)
    np.testing.assert_array_equal(plain.predict_proba(X), turned.predict_proba(X))
    assert "sentences" in clone(plain).get_params()
    with pytest.raises(StoreError, match="no sentences") as caught:
        FewShotClassifier("cupl", text=text).fit(X, y)
    assert "FewShotClassifier(...) sentences=S" in caught.value.fix


def test_what_arrays_lack_is_refused_by_fit_and_an_array_is_said_in_a_line(
    arrays: dict[str, Any],
) -> None:
    X, y, text = arrays["X"], arrays["y"], arrays["text"]
    with pytest.raises(StoreError, match="calip: there are no patches"):
        FewShotClassifier("calip", text=text).fit(X, y)
    with pytest.raises(UsageError) as caught:
        FewShotClassifier("tip-adapter", text=text, extra=[X]).fit(X, y)
    assert len(str(caught.value)) < 400


def test_what_only_fit_takes_is_refused_with_the_call_that_takes_it(arrays: dict[str, Any]) -> None:
    X, y = arrays["X"], arrays["y"]
    with pytest.raises(ValueError, match="takes no select") as error:
        FewShotClassifier("linear-probe", select="support-loo").fit(X, y)
    assert 'fit("linear-probe", cacheclip.Features.of(X, y), select="support-loo")' in str(
        error.value
    )
    with pytest.raises(StoreError, match="second encoder") as second:
        FewShotClassifier("amu", text=arrays["text"]).fit(X, y)
    assert "Features.of(X, y, text=text, logit_scale=logit_scale, aux=A)" in second.value.fix
