"""Constants belong to logit scale 100 and text of norm 10; elsewhere they take the same steps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.kernels.weight_grad_update import MOMENTS
from cacheclip.methods.base import LOGIT_SCALE, TEXT_NORM, Method, Settings
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.methods.tip_adapter_f import TipAdapterF
from cacheclip.select import base as policies
from tests.methods.tasks import SHOTS, make_task, query_of
from tests.methods.toys import FreeText, TurnedText

STEPS = 10


def logits_after(method: Method, settings: Settings, scale: float, stretched: float) -> Tensor:
    """Logits after ten steps, from class text stretched by a factor."""
    few = type(method).of(settings | {"epochs": STEPS, "batch_size": 256})
    task = make_task(few, [settings], [0])
    text = {name: stretched * x for name, x in task.text.items()}
    task = replace(task, text=text, logit_scale=scale)
    ((_, _, params),) = engine.fit(few, task, [1], lambda share: None, 10**9)
    return few.logits(few.head(params, task), query_of(few, 6))


@pytest.mark.parametrize("optimizer", sorted(MOMENTS))
def test_steps_move_logits_alike_at_every_logit_scale(optimizer: str) -> None:
    """s x (T 100 / s) are the logits at 100: so are those after steps of the law's size."""
    given = {"optimizer": optimizer}
    there = FreeText.fixed(SHOTS, 100.0, given=given)
    here = FreeText.fixed(SHOTS, 20.0, given=given)
    assert here["lr"] == pytest.approx(float(there["lr"]) * (25 if optimizer == "sgd" else 5))
    assert here["penalty"] == pytest.approx(float(there["penalty"]) / 25)
    start = logits_after(FreeText(), there | {"lr": 0.0}, 100.0, 1.0)
    expected = logits_after(FreeText(), there, 100.0, 1.0)
    got = logits_after(FreeText(), here, 20.0, 5.0)
    assert (expected - start).abs().max() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("optimizer", sorted(MOMENTS))
def test_steps_turn_text_alike_whatever_its_norm(optimizer: str) -> None:
    given = {"optimizer": optimizer}
    there = TurnedText.fixed(SHOTS, 100.0, given=given)
    here = TurnedText.fixed(SHOTS, 100.0, given=given, text_norm=TEXT_NORM / 4)
    assert here["lr"] == pytest.approx(float(there["lr"]) / (16 if optimizer == "sgd" else 4))
    assert here["penalty"] == pytest.approx(float(there["penalty"]) * 16)
    start = logits_after(TurnedText(), there | {"lr": 0.0}, 100.0, 1.0)
    expected = logits_after(TurnedText(), there, 100.0, 1.0)
    got = logits_after(TurnedText(), here, 100.0, 0.25)
    assert (expected - start).abs().max() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_raw_text_of_any_clip_leaves_constants_as_they_were_published() -> None:
    published = TurnedText.fixed(SHOTS, LOGIT_SCALE)
    for norm in (5.0, 9.2, 16.0):
        assert TurnedText.fixed(SHOTS, LOGIT_SCALE, text_norm=norm) == published


def test_the_norm_counts_where_text_keeps_it_and_a_vote_has_no_scale() -> None:
    plain = ClipAdapter.fixed(16, 20.0)
    assert ClipAdapter.fixed(16, 20.0, text_norm=1.0) == plain
    assert TipAdapterF.fixed(16, 20.0) == TipAdapterF.fixed(16, LOGIT_SCALE)


def test_a_grid_is_brought_along_and_what_the_user_gives_is_not() -> None:
    policy = policies.get("fewshot-val")
    tried = policy.candidates(FreeText, {}, SHOTS, 10.0)
    assert [c["penalty"] for c in tried] == [0.001, 0.0001, 0.0]
    assert FreeText.fixed(SHOTS, 10.0) in tried  # the grid holds the constants at every scale
    given = policy.candidates(FreeText, {"penalty": (0.01, 0.5)}, SHOTS, 10.0)
    assert [c["penalty"] for c in given] == [0.5, 0.01]
    assert {c["lr"] for c in (*tried, *given)} == {1.0}
