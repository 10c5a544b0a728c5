"""A method on proposals: fitted on those with a class, it answers for all classes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cacheclip.detection.background import Background, learn
from cacheclip.detection.scenes import UNKNOWN, Matched, Scenes
from cacheclip.detection.source import Labelled
from cacheclip.draws import Shots
from cacheclip.engine.stack import logits_in_parts
from cacheclip.errors import FitError
from cacheclip.methods.base import Method, Settings, Value
from cacheclip.store.scope import among
from cacheclip.store.source import Source
from cacheclip.study.data import SetData
from cacheclip.study.heads import Heads, fit
from cacheclip.study.plan import Cell, Variant
from cacheclip.study.targets import Target
from cacheclip.task import Query, image_layers

SAMPLE = 20_000  # proposals that the background is learned from


@dataclass(frozen=True)
class Learner:
    """How a method learns from proposals.

    Attributes:
        method: its class.
        given: settings that are no constants.
        shots: proposals of a class.
        seed: of their draw, and of what is random in the fit.
        device: where it runs.
        limit: working memory in bytes.
        background: whether there is a class of what is nothing.
    """

    method: type[Method]
    given: Mapping[str, Value]
    shots: Shots
    seed: int
    device: torch.device
    limit: int
    background: bool = False

    def learned(self, scenes: Scenes, known: Matched) -> "Detector":
        """The method, fitted on the proposals that have a class; the others show what is nothing.

        Raises:
            FitError: it is not finite.
            CacheclipError: the regions lack what it reads.
        """
        source = Labelled(scenes, known.labels)
        every = self._data(source)
        heads = self._heads(source, every, known)
        found = Detector(heads, every, self.limit)
        return found.with_background(scenes, known, self.seed) if self.background else found

    def _heads(self, source: Labelled, every: SetData, known: Matched) -> Heads:
        """One variant that answers for all classes."""
        if self.method.learns == "nothing":
            variant = self._variant(every, None)
            return next(fit(self.method.of(variant.settings), [variant], every))
        there = sorted(set(known.labels.tolist()) - {UNKNOWN})
        data = self._data(among(source, there))
        variant = self._variant(data, self.seed)
        learned = next(fit(self.method.of(variant.settings), [variant], data))
        if not bool(learned.finite().all()):
            raise FitError(
                f"the fit of {self.method.name} is not finite or did not converge",
                where=f"regions {source.dataset}",
                fix="use less extreme settings",
            )
        return Target(data, every).served(learned, learned)

    def _variant(self, data: SetData, seed: int | None) -> Variant:
        """The run: its constants with what was given, and the proposals that are drawn."""
        draw = None if seed is None else data.draw(self.shots, seed, "keep")
        shots = data.per_class if self.shots == "all" and draw else self.shots
        settings = self._settings(int(shots) if draw else 1, data)
        return Variant(Cell(seed, (settings,), settings, draw, init_seed=seed), settings, draw)

    def _settings(self, shots: int, data: SetData) -> Settings:
        norm = data.texts.norm
        recipe = self.method.recipe()
        return self.method.fixed(shots, data.logit_scale, recipe, self.given, norm)

    def _data(self, source: Source) -> SetData:
        return SetData(source, self.device, self.limit)


@dataclass(frozen=True)
class Detector:
    """A head for all classes, and what stands beside them for nothing.

    Attributes:
        heads: one variant.
        data: what its answers read beside pictures.
        limit: working memory in bytes.
        nothing: None where the classes share all of the probability.
    """

    heads: Heads
    data: SetData
    limit: int
    nothing: Background | None = None

    def probabilities(self, scenes: Scenes) -> NDArray[np.float32]:
        """Of each class [R, C]; none of what has no features, and with a background not all."""
        found = []
        for raw in scenes.parts():
            image, logits = self._answers(raw)
            p = self.nothing.probabilities(logits, image) if self.nothing else logits.softmax(1)
            found.append(p.float().cpu().numpy())
        return np.concatenate(found) * scenes.encoded[:, None]

    def with_background(self, scenes: Scenes, known: Matched, seed: int) -> "Detector":
        """The same beside a background.

        What overlaps an annotated thing is one; what overlaps none may be a thing that nobody
        annotated: it is nothing by 1 - objectness.
        """
        rows = np.flatnonzero((known.labels != UNKNOWN) | known.nothing)
        if len(rows) > SAMPLE:
            rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
        nothing = known.nothing[rows] * (1.0 - scenes.proposals.scores[rows])
        image, logits = self._answers(scenes.read(rows))
        return replace(self, nothing=learn(logits, image, nothing, self.data.logit_scale))

    def _answers(self, raw: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit rows [n, D] and logits [n, C] of raw features [n, D]."""
        method = self.heads.method
        layers = image_layers(torch.from_numpy(raw).to(self.data.device))
        read = {name: layers[name] for name in method.reads.query}
        query = Query(read, self.data.encoder(method.reads))
        parts = logits_in_parts(method, self.heads.params, query, self.limit, self.heads.seeds)
        return layers["image"], torch.cat([logits[0] for _, _, logits in parts])
