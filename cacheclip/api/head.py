"""A head: one adapted classifier, at work on arrays, and as a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cacheclip.api.arguments import features_of
from cacheclip.api.labels import known_labels
from cacheclip.bundle import SUFFIX, Bundle, is_bundle
from cacheclip.classifier import Classifier
from cacheclip.draws import Fewer, Shots
from cacheclip.engine.memory import default_limit
from cacheclip.engine.stack import logits_in_parts
from cacheclip.errors import InputError, UsageError, in_python, quoted, some
from cacheclip.features import Features, rows_of
from cacheclip.files.places import refuse_place
from cacheclip.metrics import wilson
from cacheclip.results import Row
from cacheclip.store.source import AUX
from cacheclip.study.data import SetData
from cacheclip.study.score import score
from cacheclip.study.table import ORACLE, short
from cacheclip.study.transfer import transfer
from cacheclip.task import Query, image_layers

CPU = torch.device("cpu")
OF_ARRAYS = ("image", "image-norm")  # the layers that rows of features are
OF_AUX = tuple(AUX + name for name in OF_ARRAYS)  # and those of a second encoder


class Head:
    """What one fit left. It answers for features of the encoder that it learned from.

    Attributes:
        bundle: all that it is.
        classes: [C], what `predict` answers for each class: numbers where the labels were numbers,
            else the class names.
        row: its result row; its accuracy on the test split is `row.top1_test`. None of a head that
            was loaded.
        notices: what there is to know of its draw, a line each.
    """

    def __init__(
        self,
        bundle: Bundle,
        classes: NDArray[Any] | None = None,
        row: Row | None = None,
        notices: tuple[str, ...] = (),
    ) -> None:
        self.bundle = bundle
        self.classes = np.array(bundle.classnames) if classes is None else classes
        self.row = row
        self.notices = notices
        self._classifier = Classifier(bundle)
        self._width = int(bundle.encoder["embed_dim"])

    @classmethod
    def load(cls, path: Path | str) -> "Head":
        """The head in a bundle that `save` or `cacheclip fit` left.

        It answers class names, whatever the labels were; its row is None and its notices are empty.

        Raises:
            InputError: there is no such bundle, or it is damaged.
        """
        return cls(Bundle.read(path))

    @property
    def method(self) -> str:
        """Name of its method."""
        return self.bundle.method

    @property
    def settings(self) -> dict[str, float | int | str]:
        """All its settings, as they were given, chosen or left at the method's constants."""
        return dict(self.bundle.hparams)

    @property
    def classnames(self) -> list[str]:
        """[C] names in label order."""
        return list(self.bundle.classnames)

    @property
    def learned(self) -> dict[str, float]:
        """What the fit found for settings given as `learned`."""
        return dict(self.bundle.learned)

    def __repr__(self) -> str:
        settings = " ".join(f"{name}={short(x)}" for name, x in self.settings.items())
        row, tested = self.row, ""
        if row is not None and row.top1_test is not None:
            low, high = (100 * share for share in wilson(row.top1_test, row.n_test))
            percent = 100 * row.top1_test
            tested = f"; test {percent:.1f} % ({low:.1f}-{high:.1f}) of {row.n_test:,}"
        return f"<Head {self.method} {settings}: {len(self.classes)} classes{tested}>"

    def logits(self, X: ArrayLike, aux: ArrayLike | None = None) -> NDArray[np.floating[Any]]:
        """Class scores [n, C].

        Args:
            X: [n, D] features, raw or unit rows: arrays, tensors or lists.
            aux: [n, D'] features of the same rows by the second encoder, where the head reads one.

        Raises:
            InputError: these are no such rows, or the method reads more of a picture than them.
        """
        query = self._query(X, aux)
        if not all(map(len, query.layers.values())):
            return np.empty((0, len(self.classes)), np.float32)
        method, params = self._classifier.method, self._classifier.params
        parts = logits_in_parts(method, params, query, default_limit(CPU))
        found: NDArray[Any] = torch.cat([logits[0] for _, _, logits in parts]).numpy()
        return found

    def predict_proba(
        self, X: ArrayLike, aux: ArrayLike | None = None
    ) -> NDArray[np.floating[Any]]:
        """Probabilities [n, C]: the softmax of the logits at the temperature of the fit."""
        logits = torch.from_numpy(self.logits(X, aux)).double()
        p: NDArray[Any] = (logits / self.bundle.temperature).softmax(-1).numpy()
        return p

    def predict(self, X: ArrayLike, aux: ArrayLike | None = None) -> NDArray[Any]:
        """The class of each row: [n] of `classes`; arguments as of `logits`."""
        answers: NDArray[Any] = self.classes[self.logits(X, aux).argmax(-1)]
        return answers

    def transfer(
        self, data: Features, *, shots: Shots = 16, seed: int = 1, fewer: Fewer = "error"
    ) -> "Head":
        """A head of other classes by what this one learned: nothing is trained.

        Args:
            data: features by the same encoder, with class text.
            shots: support pictures a class, where the method reads them.
            seed: of their draw.
            fewer: `keep` takes what there is of a class with fewer pictures.

        Raises:
            CacheclipError: the method serves the classes that it learned from alone, or the
                features lack what it reads.
        """
        features = features_of(data)
        with in_python():
            made = transfer(self.bundle, features.source, shots, seed, fewer)
        return Head(made.bundle, features.classes)

    def score(
        self,
        data: Features | ArrayLike,
        y: ArrayLike | None = None,
        aux: ArrayLike | None = None,
    ) -> float:
        """Accuracy on the test split of features, or on rows and labels of one's own.

        Args:
            data: features of the same classes, whose test labels this opens; or [n, D] rows.
            y: [n] labels of the rows, as `predict` answers them; each a class of the head.
            aux: beside rows, see `logits`.

        Raises:
            InputError: classes or features are others, a label is no class of the head, or there is
                no test split.
        """
        if y is not None:
            return self._score_rows(data, y, aux)
        features = features_of(data)
        self._refuse_others(features)
        own = SetData(features.source, CPU, default_limit(CPU))
        if not own.tested:
            raise InputError(
                "there is no test split to score on",
                where=f"data set {features.source.dataset}",
                fix="head.score(X, y), or Features.of(X, y, split=split) with rows of test",
            )
        seed = self.bundle.provenance["seed"]  # a stream comes in the order of its fit
        seeds = None if seed is None else [int(seed)]
        method, params = self._classifier.method, self._classifier.params
        return float(score(method, params, own, seeds=seeds).top1[0])

    def save(self, path: Path | str) -> Path:
        """Write the head to a file that `load` and `cacheclip predict` read.

        Args:
            path: NAME.safetensors.

        Raises:
            UsageError: the method answers for a whole set or stream, or was tuned on the test
                pictures, so it leaves no file.
            InputError: no file can be written there.
        """
        if self._classifier.method.setting != "inductive":
            raise UsageError(
                f"{self.method} answers for a whole test set or stream, so it leaves no file",
                where="head.save",
                fix="head.predict(X), with all rows at once",
            )
        if self.bundle.provenance.get("select") == ORACLE:
            raise UsageError(
                f"{self.method} was tuned on the test pictures: no result of a method, so it "
                "leaves no file",
                where="head.save",
                fix=f"cacheclip.fit({quoted(self.method)}, data, ...) without "
                f"select={quoted(ORACLE)}",
            )
        place = Path(path)
        refuse_place(place, "path", (SUFFIX, ""), is_bundle)
        self.bundle.write(place, "path")
        return place

    def _refuse_others(self, features: Features) -> None:
        """Refuse features of other classes than the head's, or of another width."""
        own, given = self.classnames, features.classnames
        where = f"data set {features.source.dataset}: {len(given)} classes, the head {len(own)}"
        if set(given) != set(own):
            strange = [name for name in given if name not in own]
            lacks = [name for name in own if name not in given]
            names = [f"{some(strange)} are none of the head's"] if strange else []
            names += [f"{some(lacks)} are not among them"] if lacks else []
            raise InputError(
                f"these features have other classes than the head: {'; '.join(names)}",
                where=where,
                fix="head.score(X, y) with the rows that are of its classes",
            )
        if given != own:
            raise InputError(
                "these features have the classes of the head in another order",
                where=where,
                fix="Features.of(..., classnames=head.classnames), and text in that order",
            )
        second, aux = self.bundle.second, features.source.aux
        wanted = [(features.source, self._width)]
        if second is not None and aux is not None:
            wanted.append((aux.source, int(second.encoder["embed_dim"])))
        for source, dim in wanted:
            if (width := int(source.encoder["embed_dim"])) == dim:
                continue
            raise InputError(
                f"these features have {width} numbers a row, and the head learned from {dim}",
                where=f"data set {features.source.dataset}",
                fix="give features of the encoder that the head learned from",
            )

    def _score_rows(self, X: Any, y: ArrayLike, aux: ArrayLike | None) -> float:
        predicted = self.predict(X, aux)
        labels = np.asarray(y)
        if labels.shape != predicted.shape:
            raise InputError(
                f"y has shape {list(labels.shape)}, and X {len(predicted):,} rows",
                where="head.score(X, y)",
                fix="give one label a row",
            )
        if not len(labels):
            raise InputError(
                "there are no rows to score on", where="head.score(X, y)", fix="give a row or more"
            )
        own = known_labels(y, labels, self.classes)
        return float((predicted == own).mean())

    def _query(self, X: ArrayLike, aux: ArrayLike | None) -> Query:
        read = self.bundle.layers
        others = [name for name in read if name not in (*OF_ARRAYS, *OF_AUX)]
        parts = [f"the encoder's {name}" for name in self._classifier.method.reads.query_encoder]
        if others or parts:
            raise InputError(
                f"{self.method} reads {', '.join(others + parts)} beside a picture's feature",
                where="the rows to be classified",
                fix="head.score(data), or cacheclip predict BUNDLE IMAGE_OR_FOLDER",
            )
        layers = image_layers(torch.from_numpy(rows_of(X, self._width)))
        if self.bundle.second is not None:
            own = self._second(self.bundle.second.encoder, aux, len(layers["image"]))
            layers |= {AUX + name: x for name, x in image_layers(torch.from_numpy(own)).items()}
        return Query({name: layers[name] for name in read})

    def _second(
        self, encoder: Mapping[str, Any], aux: ArrayLike | None, n: int
    ) -> NDArray[np.float32]:
        """The features [n, D'] of the second encoder, of n rows."""
        width = int(encoder["embed_dim"])
        if aux is None:
            raise InputError(
                f"{self.method} reads a second encoder's feature of each row beside the first's",
                where=f"the rows to be classified; second encoder: {encoder['name']}@"
                f"{encoder['pretrained']}",
                fix=f"head.predict(X, aux=A): A [n, {width}], its features of the same rows",
            )
        found = rows_of(aux, width, called="aux")
        if len(found) != n:
            raise InputError(
                f"aux: {len(found):,} rows, and X has {n:,}",
                where="the rows to be classified",
                fix="give aux a row for each of X, in its order",
            )
        return found
