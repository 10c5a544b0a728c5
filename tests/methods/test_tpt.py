"""TPT against its steps written out picture by picture, and what its views decide."""

import torch
from torch import Tensor

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.tpt import Tpt
from cacheclip.task import Query, unit
from tests.methods.explicit import D, Problem, normal, problem
from tests.methods.test_coop import class_text, tokens, tower

VIEWS, PICTURES = 5, 4
ENCODER = {"tower": tower()}
IMAGE = unit(normal(PICTURES, D, seed=4))
CROPS = unit(IMAGE[:, None] + 0.5 * normal(PICTURES, VIEWS, D, seed=5))
SCALE = 20.0


def made(**settings: float) -> Problem:
    own = {"surest": 0.4, **settings}
    return problem(
        Tpt, [own, {**own, "lr": 0.1}], encoder=ENCODER, text={"tokens": tokens()}, scale=SCALE
    )


def answers(both: Problem, image: Tensor = IMAGE, crops: Tensor = CROPS) -> Tensor:
    with torch.no_grad():  # as the engine asks
        query = Query({"image": image, "image/views": crops}, ENCODER)
        return both.method.logits(both.head(), query)


def written_out(crops: Tensor, x: Tensor, lr: float, steps: int) -> Tensor:
    """The logits [C] of one picture, by torch's own AdamW."""
    whole = TextTransformer.of(tower(), torch.float64)
    words = whole.embed(tower()["context"]).clone().requires_grad_()
    adam = torch.optim.AdamW([words], lr=lr)
    p = (SCALE * crops @ class_text(whole, words).T).softmax(-1)
    sure = (-(p * p.log()).sum(-1)).argsort()[:2]
    for _ in range(steps):
        p = (SCALE * crops[sure] @ class_text(whole, words).T).softmax(-1).mean(0)
        adam.zero_grad()
        torch.autograd.backward(-(p * p.log()).sum())
        adam.step()
    return SCALE * class_text(whole, words.detach()) @ x


def test_it_is_the_steps_written_out() -> None:
    for steps in (1, 3):
        logits = answers(made(rounds=steps))
        for v, lr in enumerate((5e-3, 0.1)):
            exact = torch.stack(
                [written_out(*one, lr, steps) for one in zip(CROPS, IMAGE, strict=True)]
            )
            torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-6)
        assert (logits[1] - logits[0]).abs().max() > 0.1


def test_without_a_step_it_is_zero_shot_by_its_words() -> None:
    whole = TextTransformer.of(tower(), torch.float64)
    text = class_text(whole, whole.embed(tower()["context"]))
    logits = answers(made(rounds=0))
    expected = (SCALE * IMAGE @ text.T).expand_as(logits)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_an_answer_depends_on_no_other_picture_and_on_no_unsure_view() -> None:
    both = made()
    logits = answers(both)
    alone = answers(both, IMAGE[2:3], CROPS[2:3])
    torch.testing.assert_close(alone[:, 0], logits[:, 2], rtol=0, atol=1e-10)
    whole = TextTransformer.of(tower(), torch.float64)
    text = class_text(whole, whole.embed(tower()["context"]))
    p = (SCALE * CROPS @ text.T).softmax(-1)
    least_sure = (-(p * p.log()).sum(-1)).argmax(-1)  # of each picture
    index = torch.arange(PICTURES)
    less = CROPS.clone()
    less[index, least_sure] = unit(text.mean(0))  # no surer than it was
    assert torch.equal(answers(both, IMAGE, less), logits)


def test_constants_are_the_released_ones() -> None:
    assert Tpt.fixed(16, 16.0) == {"views": 64, "surest": 0.1, "rounds": 1, "lr": 5e-3}
