"""A few-shot method as a scikit-learn classifier: arrays in, every row of them is support."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from cacheclip.api.head import Head
from cacheclip.api.verbs import fit
from cacheclip.errors import CacheclipError, InputError, StoreError, brief, quoted
from cacheclip.exchange.in_memory import ArraySet
from cacheclip.exchange.labels import refuse_mixed
from cacheclip.features import Features
from cacheclip.methods import base as methods
from cacheclip.study.settings import is_several

# What are no settings.
OWN = ("method", "text", "sentences", "classes", "logit_scale", "shots", "seed")
# What `cacheclip.fit` takes beside settings and the classifier does not.
OF_FIT = ("select", "recipe", "draw", "fewer", "max_memory", "calibrate", "init_seed")


class WrongValueError(InputError, ValueError):
    """What is wrong with arrays, as scikit-learn expects to hear it."""


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A method of this package for `Pipeline`, `GridSearchCV` and `cross_val_score`.

    It learns from every row that it is given, or from `shots` a class, with its settings as they
    stand: to choose among settings is GridSearchCV's. Rows of X are features; their direction is
    what counts.

    Args:
        method: name of the method; `linear-probe` and `nearest-mean` need no text.
        text: [C, D] or [C, T, D] text features of the classes.
        sentences: [C, S, D] features of sentences that describe each class, beside text; `cupl`
            needs them.
        classes: [C] labels, in the order of the rows of text and sentences; by default those of y,
            sorted. Where they are sorted names, y may be 0 to C - 1 instead, as cross_val_predict
            numbers it.
        logit_scale: the exp of CLIP's parameter.
        shots: support rows a class, or "all".
        seed: of the draw where there are shots, and of what is random in the fit.
        **settings: of the method.

    Attributes:
        classes_: [C] labels, sorted, as scikit-learn takes them to be.
        head_: the `Head` that the fit left.
        n_features_in_: D.
    """

    def __init__(
        self,
        method: str = "linear-probe",
        *,
        text: Any = None,
        sentences: Any = None,
        classes: Any = None,
        logit_scale: float = 100.0,
        shots: Any = "all",
        seed: int = 1,
        **settings: Any,
    ) -> None:
        self.method = method
        self.text = text
        self.sentences = sentences
        self.classes = classes
        self.logit_scale = logit_scale
        self.shots = shots
        self.seed = seed
        for name, value in settings.items():
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What the constructor was given, settings of the method among it."""
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_") and not name.endswith("_")  # these are of a fit
        }

    def set_params(self, **params: Any) -> "FewShotClassifier":
        """Change some of that.

        Raises:
            ValueError: the method has no such setting.
        """
        asked = params.get("method", self.method)
        if isinstance(asked, str) and asked in methods.names():  # any other is refused by the fit
            method = methods.get(asked)
            known = {*OWN, *method.table}
            unknown = [name for name in params if name not in known]
            if unknown:
                raise WrongValueError(
                    f"Invalid parameter {unknown[0]!r} for {type(self).__name__}",
                    where=f"method {method.name}",
                    fix=f"one of {', '.join(sorted(known))}",
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike) -> "FewShotClassifier":
        """Learn from features [N, D] and labels [N].

        Raises:
            ValueError: the arrays are not as described.
            StoreError: the method reads what arrays do not have, or was not given.
            UsageError: the method or a setting is none.
        """
        x, given = validate_data(self, X, y, dtype=(np.float32, np.float64))
        _refuse_mixed(np.asarray(y, object) if isinstance(y, list | tuple) else given)
        check_classification_targets(given)
        labels = np.unique(given)
        self.classes_ = self._classes(labels)
        if len(self.classes_) < 2:
            raise WrongValueError(
                f"there is {len(self.classes_)} class, and a classifier needs two or more classes",
                where="y",
                fix="give rows of every class",
            )
        self.head_ = self._head(x, np.searchsorted(self.classes_, given))
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Probabilities [n, C], columns as in `classes_`."""
        probabilities: NDArray[Any] = self._asked(self._fitted().predict_proba, X)
        return probabilities

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Class scores [n, C]; of two classes [n], positive for the second."""
        logits: NDArray[Any] = self._asked(self._fitted().logits, X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of each row: [n]."""
        best = self._asked(self._fitted().logits, X).argmax(1)  # [n]
        answers: NDArray[Any] = self.classes_[best]
        return answers

    def _classes(self, labels: NDArray[Any]) -> NDArray[Any]:
        """[C] what y and the answers are, sorted.

        Args:
            labels: those of y, each once.
        """
        if self.classes is None:
            return labels
        classes = np.asarray(self.classes)
        if classes.dtype.kind == "O" and len({isinstance(one, str) for one in classes.flat}) > 1:
            raise WrongValueError(
                f"classes are of several kinds: {classes.tolist()[:5]}",
                where="classes",
                fix="classes = np.unique(y), in the order of the rows of text",
            )
        known = np.unique(classes)
        if len(known) < classes.size:
            raise WrongValueError(
                f"classes are {classes.size}, and {len(known)} of them are different",
                where="classes",
                fix="name each class once, in the order of the rows of text",
            )
        if known.dtype.kind in "US" and labels.dtype.kind in "iu":
            self._refuse_positions(labels, classes)
            return labels
        there = set(known.tolist())
        absent = [label for label in labels.tolist() if label not in there]
        if absent:
            raise WrongValueError(
                f"{len(absent)} labels of y are not among classes: {absent[:5]}",
                where="classes",
                fix="classes = np.unique(y), in the order of the rows of text",
            )
        return known

    def _refuse_positions(self, labels: NDArray[Any], classes: NDArray[Any]) -> None:
        """Refuse numbers for names, unless they can only be positions in the sorted names."""
        said = f"y are numbers, {labels[:5].tolist()}, and classes are names"
        where = "FewShotClassifier(classes=...); cross_val_predict and VotingClassifier number y"
        if labels.tolist() != list(range(len(classes))):
            raise WrongValueError(
                f"{said}: a number for each of the {len(classes)} would say whose it is",
                where=where,
                fix="leave classes out, and give text a row for each of np.unique(y)",
            )
        if (classes[1:] < classes[:-1]).any():
            given = [own for own in ("text", "sentences") if getattr(self, own) is not None]
            left = ", ".join(["classes", *given])
            right = ", ".join(["np.array(classes)[k]", *(f"{own}[k]" for own in given)])
            raise WrongValueError(
                f"{said} that are not sorted, so the numbers may count them in two orders",
                where=where,
                fix=f"k = np.argsort(classes); {left} = {right}",
            )

    def _sorted_text(self) -> Any:
        """Text features whose rows follow `classes_`."""
        return self._sorted(self.text)

    def _sorted(self, x: Any) -> Any:
        """Rows that are given as `classes` are, in the order of `classes_`."""
        if self.classes is None or not hasattr(x, "__len__") or len(x) != len(self.classes_):
            return x  # None; of another length it is refused with the features
        order = np.argsort(np.asarray(self.classes)).tolist()
        return [x[k] for k in order] if isinstance(x, list | tuple) else x[order]

    def _names(self) -> list[str]:
        """[C] names of the classes, as `classes_` has them."""
        known = self.classes_ if self.classes is None else np.unique(np.asarray(self.classes))
        return [str(label) for label in known.tolist()]

    def _text_given(self) -> str:
        """What `Features.of` takes of the class text that the classifier was given."""
        return "" if self.text is None else ", text=text, logit_scale=logit_scale"

    def _settings(self) -> dict[str, Any]:
        """The settings of the method, one value each."""
        settings = {name: x for name, x in self.get_params().items() if name not in OWN}
        known = methods.get(self.method).table if self.method in methods.names() else {}
        if taken := [name for name in settings if name in OF_FIT and name not in known]:
            name = taken[0]
            value = quoted(settings[name]) if isinstance(settings[name], str) else name
            raise WrongValueError(
                f"FewShotClassifier takes no {name}: it learns from the rows that it is given, by "
                "its settings as they stand",
                where=f"method {self.method}",
                fix=f"leave {name} out, or head = cacheclip.fit({quoted(self.method)}, "
                f"cacheclip.Features.of(X, y{self._text_given()}), {name}={value})",
            )
        for name, x in settings.items():
            if name in known and is_several(x) and len(x) > 1:
                raise WrongValueError(
                    f"{name} = {brief(x)} are {len(x)} values, and FewShotClassifier takes one",
                    where=f"method {self.method}",
                    fix=f"GridSearchCV(model.set_params({name}={quoted(x[0])}), "
                    f"{quoted({name: list(x)})}).fit(X, y)  # of this model",
                )
        return settings

    def _head(self, X: NDArray[Any], y: NDArray[np.int64]) -> Head:
        settings = self._settings()
        try:
            data = Features.of(
                X,
                y,
                text=self._sorted_text(),
                sentences=self._sorted(self.sentences),
                logit_scale=self.logit_scale,
                classnames=self._names(),
            )
            return fit(
                self.method,
                data,
                shots=self.shots,
                seed=self.seed,
                select="fixed",
                calibrate=False,
                **settings,
            )
        except InputError as error:
            raise _as_value_error(error) from None
        except StoreError as error:
            fix = error.fix.replace("Features.of(...)", f"{type(self).__name__}(...)")
            if ArraySet.aux_command in error.fix:
                fix = (
                    "the classifier takes one encoder's rows; with A [N, D], a second encoder's: "
                    f"cacheclip.fit({quoted(self.method)}, "
                    f"cacheclip.Features.of(X, y{self._text_given()}, aux=A), "
                    f"shots={quoted(self.shots)})"
                )
            raise StoreError(error.what, where=error.where, fix=fix) from None

    def _fitted(self) -> Head:
        check_is_fitted(self, "head_")
        head: Head = self.head_
        return head

    def _asked(self, answer: Any, X: ArrayLike) -> Any:
        X = validate_data(self, X, dtype=(np.float32, np.float64), reset=False)
        try:
            return answer(X)
        except InputError as error:
            raise _as_value_error(error) from None


def _refuse_mixed(labels: NDArray[Any]) -> None:
    """Refuse labels of which some are missing or of another kind."""
    if labels.dtype.kind == "O":
        try:
            refuse_mixed("y", labels, ("X", "y"), "FewShotClassifier.fit(X, y)")
        except InputError as error:
            raise _as_value_error(error) from None


def _as_value_error(error: CacheclipError) -> WrongValueError:
    return WrongValueError(error.what, where=error.where, fix=error.fix)
