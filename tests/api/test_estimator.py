"""The scikit-learn classifier: its own suite of checks, and the tools that people put it in."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from cacheclip.api.estimator import FewShotClassifier
from cacheclip.api.verbs import fit
from cacheclip.errors import UsageError
from cacheclip.features import Features

WITHOUT = {"check_estimators_dtypes": "it gives rows of zeros, which have no direction"}


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn_pass() -> None:
    failed = []
    for estimator, check in estimator_checks_generator(FewShotClassifier("nearest-mean")):
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
    names = np.array(list("edcba"))
    model = FewShotClassifier("tip-adapter", **text, classes=names, alpha=2.0).fit(X, names[y])
    head = fit("tip-adapter", Features.of(X, y, **text), shots="all", select="fixed", alpha=2.0)
    np.testing.assert_array_equal(model.decision_function(X), head.logits(X))
    np.testing.assert_array_equal(model.predict(X), names[head.predict(X)])
    assert model.score(X, names[y]) == head.score(X, y)


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


def test_a_setting_or_method_that_is_none_is_refused(arrays: dict[str, Any]) -> None:
    model = FewShotClassifier()
    with pytest.raises(ValueError, match="Invalid parameter 'alfa'"):
        model.set_params(alfa=1)
    with pytest.raises(UsageError, match="no method 'tip'"):
        FewShotClassifier("tip").fit(arrays["X"], arrays["y"])
    with pytest.raises(ValueError, match="not among classes"):
        FewShotClassifier(classes=[0, 1]).fit(arrays["X"], arrays["y"])
