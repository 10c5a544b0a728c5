"""InCPL-like against its cycles written out, and what its context and other pictures may do."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.incpl_like import InCplLike
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, Problem, normal, problem
from tests.methods.test_coop import class_text, tokens, tower

ENCODER = {"tower": tower()}
X = unit(normal(3, D, seed=4))
SCALE = 20.0


def made(**settings: float) -> Problem:
    both = [settings, {**settings, "lr": 0.02, "lr_offset": 0.1, "supervised": 3.0}]
    return problem(InCplLike, both, encoder=ENCODER, text={"tokens": tokens()}, scale=SCALE)


def answers(both: Problem, x: Tensor = X) -> Tensor:
    with torch.no_grad():  # as the engine asks
        return both.method.logits(both.head(), Query({"image": x}, ENCODER))


def written_out(both: Problem, v: int, x: Tensor, cycles: int) -> Tensor:
    """The logits [C] of one picture, by torch's own AdamW."""
    whole = TextTransformer.of(tower(), torch.float64)
    examples, labels = both.variant(v)
    words = whole.embed(tower()["context"]).clone().requires_grad_()
    offset = torch.zeros(D, dtype=torch.float64, requires_grad=True)
    of_words = torch.optim.AdamW([words], lr=both.setting("lr", v))
    of_offset = torch.optim.AdamW([offset], lr=both.setting("lr_offset", v))

    def scores(pictures: Tensor) -> Tensor:
        return SCALE * unit(pictures + offset) @ class_text(whole, words).T

    for _ in range(cycles):
        for adam in (of_offset, of_words):
            adam.zero_grad()
            p = scores(x).softmax(-1)
            missed = cross_entropy(scores(examples), labels)
            torch.autograd.backward(-(p * p.log()).sum() + both.setting("supervised", v) * missed)
            adam.step()
    return scores(x).detach()


def test_it_is_the_cycles_written_out() -> None:
    for cycles in (1, 2):
        both = made(rounds=cycles)
        logits = answers(both)
        for v in range(2):
            exact = torch.stack([written_out(both, v, x, cycles) for x in X])
            torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-6)
        assert (logits[1] - logits[0]).abs().max() > 0.1


def test_without_a_cycle_or_a_rate_it_is_zero_shot_by_its_words() -> None:
    whole = TextTransformer.of(tower(), torch.float64)
    text = class_text(whole, whole.embed(tower()["context"]))
    still = made(rounds=0)
    logits = answers(still)
    expected = (SCALE * X @ text.T).expand_as(logits)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    still = made(rounds=3, lr=0.0, lr_offset=0.0)
    torch.testing.assert_close(answers(still)[:1], expected[:1], rtol=0, atol=1e-10)


def test_an_answer_depends_on_no_other_picture() -> None:
    both = made(rounds=2)
    logits = answers(both)
    torch.testing.assert_close(answers(both, X[[2, 0]]), logits[:, [2, 0]], rtol=0, atol=1e-10)


def test_the_context_is_the_whole_support_whatever_is_asked_about() -> None:
    """No class is left out, and a head, made before any picture is seen, holds all of it."""
    both = made()
    head = both.head()
    assert torch.equal(head["examples"], both.task.support()["image"])
    assert torch.equal(head["labels"], both.task.labels)
    counts = one_hot(head["labels"], C).sum(1)
    assert (counts > 0).all()
    other = replace(both, task=replace(both.task, labels=both.task.labels.roll(1, 1)))
    assert (answers(other) - answers(both)).abs().max() > 1e-3  # the context's labels do count


def test_constants_and_what_is_not_known_of_them() -> None:
    assert InCplLike.fixed(16, 100.0) == {
        "rounds": 1, "lr": 5e-3, "lr_offset": 5e-3, "supervised": 1.0,
    }  # fmt: skip
    assert InCplLike.fixed(16, 25.0)["lr_offset"] == 0.02
    assert InCplLike.unverified
