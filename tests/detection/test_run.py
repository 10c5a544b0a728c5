"""From scenes to results: what is true is opened last, novel boxes teach nothing, rounds teach."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.detection import precision, run as running, score
from cacheclip.detection.learner import Learner
from cacheclip.detection.pseudo import Rule
from cacheclip.detection.run import ALL, BASE, NOVEL, Protocol, Result, run
from cacheclip.detection.scenes import Matched, Scenes, matched
from cacheclip.errors import ProtocolError
from cacheclip.methods import base
from cacheclip.store.regions import Annotations
from tests.detection import toys
from tests.detection.toys import C, scenes

PROTOCOL = Protocol(rounds=1, rule=Rule(0.4))


def learner(name: str, **more: Any) -> Learner:
    given = {"epochs": 20} if name != "zero-shot" else {}
    own: dict[str, Any] = {
        "shots": 8,
        "seed": 1,
        "device": torch.device("cpu"),
        "limit": 10**8,
        "background": True,
    }
    return Learner(base.get(name), given, **own | more)


def result(train: Scenes, test: Scenes, *names: str, **more: Any) -> list[Result]:
    known = matched(train)
    return run(train, test, known, [learner(name, **more) for name in names], PROTOCOL)


def test_a_trial_has_a_result_for_each_method_and_round() -> None:
    found = result(scenes(1), scenes(2), "zero-shot", "linear-adapter")
    assert [(x.method, x.rounds) for x in found] == [
        ("zero-shot", 0), ("linear-adapter", 0), ("linear-adapter", 1)
    ]  # fmt: skip
    assert found[2].pseudo > 0
    for own in found:
        each = own.precision.ap50
        assert own.mean(ALL) == pytest.approx(np.nanmean(each))
        assert own.mean(BASE) == pytest.approx(np.nanmean(each[:3]))
        assert own.mean(NOVEL) == pytest.approx(np.nanmean(each[3:]))
    again = result(scenes(1), scenes(2), "zero-shot", "linear-adapter")
    assert [own.as_json() for own in again] == [own.as_json() for own in found]


def test_what_is_true_of_test_scenes_is_opened_once_and_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def opened(truth: Annotations) -> Annotations:
        done.append("opened")
        return truth

    def detections(*args: Any) -> Any:
        done.append("answered")
        return kept(*args)

    kept = score.detections
    monkeypatch.setattr(running, "detections", detections)
    result(scenes(1), scenes(2, opened=opened), "zero-shot", "linear-adapter")
    assert done == ["answered"] * 3 + ["opened"]


def test_nothing_but_the_score_depends_on_what_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detections are the same bits whatever the test scenes' labels are."""
    answers: list[Any] = []
    kept = precision.average_precision

    def watched(truth: Annotations, found: Any, *sizes: int) -> Any:
        answers.append(found)
        return kept(truth, found, *sizes)

    def other(truth: Annotations) -> Annotations:
        return replace(truth, labels=(truth.labels + 1) % C)

    monkeypatch.setattr(running, "average_precision", watched)
    for test in (scenes(2), scenes(2, opened=other)):
        result(scenes(1), test, "linear-adapter")
    for mine, same in zip(answers[:2], answers[2:], strict=True):
        assert np.array_equal(mine.scores, same.scores)
        assert np.array_equal(mine.labels, same.labels)


def test_novel_boxes_of_the_training_scenes_teach_nothing() -> None:
    def without(truth: Annotations) -> Annotations:
        own = ~toys.NOVEL[truth.labels]
        kept = (x[own] for x in (truth.image, truth.boxes, truth.labels, truth.crowd, truth.ids))
        return Annotations(*kept)

    bare = result(scenes(1, opened=without), scenes(2), "linear-adapter")
    full = result(scenes(1), scenes(2), "linear-adapter")
    assert [own.as_json() for own in bare] == [own.as_json() for own in full]


def test_a_method_may_not_ask_for_test_labels() -> None:
    from cacheclip.detection.source import Labelled
    from cacheclip.study.data import SetData

    train = scenes(1)
    data = SetData(Labelled(train, matched(train).labels), torch.device("cpu"), 10**8)
    with pytest.raises(ProtocolError):
        data.pool("test")
    assert not data.tested


def test_zero_shot_is_the_softmax_of_the_text_whoever_learns() -> None:
    train = scenes(1)
    found = learner("zero-shot", background=False).learned(train, matched(train))
    x = torch.from_numpy(np.concatenate(list(train.parts())))
    x = x / x.norm(dim=1, keepdim=True)
    assert train.of.text is not None
    text = torch.from_numpy(train.of.text.load()[:, 0])
    exact = (toys.SCALE * x @ (text / text.norm(dim=1, keepdim=True)).T).softmax(1)
    np.testing.assert_allclose(found.probabilities(train), exact, atol=1e-5)


def test_a_proposal_without_features_is_nothing_and_teaches_nothing() -> None:
    train = scenes(1)
    own = matched(train)
    row = int(np.flatnonzero(own.labels >= 0)[0])
    train.encoded[row] = False
    known = matched(train)
    assert known.labels[row] == -1 and not known.nothing[row]
    p = learner("zero-shot").learned(train, known).probabilities(train)
    assert (p[row] == 0).all() and (p[row + 1] > 0).all()


def test_a_class_without_any_box_is_served_from_its_text() -> None:
    train = scenes(1)
    own = matched(train)
    some = Matched(np.where(own.labels == 0, -1, own.labels), own.nothing)
    p = learner("linear-adapter", background=False).learned(train, some).probabilities(train)
    assert p.shape == (len(own.labels), C)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


def test_features_read_in_parts_are_features_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train = scenes(1)
    detector = learner("linear-adapter").learned(train, matched(train))
    whole = detector.probabilities(train)
    monkeypatch.setattr("cacheclip.detection.scenes.AT_ONCE", 7)
    np.testing.assert_allclose(detector.probabilities(train), whole, atol=1e-6)
