"""The text transformer and its prompts: those of open_clip, and nothing that a cut changes."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from cacheclip.errors import InputError
from cacheclip.heads.prompts import class_features
from cacheclip.heads.text_transformer import TextTransformer

LENGTH, VOCABULARY, WIDTH, HEADS, D = 16, 40, 24, 3, 10
START, END = 38, 39
NAMES = [[5, 1], [6, 7, 8, 1], [9, 1]]  # three classes, "name ."


@pytest.fixture(params=["gelu", "quick-gelu"])
def theirs(request: pytest.FixtureRequest) -> Any:
    """A random text tower of open_clip's, all its weights moved off their starts."""
    transformer = importlib.import_module("open_clip.transformer")
    quick = {"act_layer": transformer.QuickGELU} if request.param == "quick-gelu" else {}
    tower = transformer.TextTransformer(
        context_length=LENGTH, vocab_size=VOCABULARY, width=WIDTH, heads=HEADS, layers=2,
        output_dim=D, **quick,
    )  # fmt: skip
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in tower.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=g))
    tower.quick = bool(quick)
    return tower.eval()


def ours(theirs: Any, dtype: torch.dtype = torch.float32) -> TextTransformer:
    arrays = {name: x.detach() for name, x in theirs.state_dict().items()}
    facts = {"heads": HEADS, "quick-gelu": int(theirs.quick), "end": END}
    return TextTransformer.of(arrays | {n: torch.tensor(x) for n, x in facts.items()}, dtype)


def tokens(rows: list[list[int]], width: int = LENGTH) -> Tensor:
    full = [[START, *row, END] for row in rows]
    return torch.tensor([row + [0] * (width - len(row)) for row in full])


def test_it_is_the_text_tower_of_open_clip(theirs: Any) -> None:
    rows = tokens([[3, 4, 5], list(range(14)), [7]])
    with torch.no_grad():
        exact = theirs(rows)
    tower = ours(theirs)
    got = tower.features(tower.embed(rows), (rows == END).int().argmax(1))
    assert exact.norm(dim=-1).min() > 1
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-5)


def test_context_of_word_embeddings_is_the_prompt_with_those_words(theirs: Any) -> None:
    words = [2, 3, 4, 2]
    tower = ours(theirs)
    with torch.no_grad():
        exact = theirs(tokens([[*words, *name] for name in NAMES]))
    context = tower.embed(torch.tensor(words)).expand(2, -1, -1)
    got = class_features(tower, tokens(NAMES), context)
    assert got.shape == (2, 3, D)
    torch.testing.assert_close(got, exact.expand(2, -1, -1), rtol=0, atol=1e-5)


def _alone(tower: TextTransformer, x: Tensor, end: int) -> Tensor:
    """The features of one class with all of its filling in sight."""
    return tower.features(x.expand(2, -1, -1), torch.tensor([end, LENGTH - 1]))[0]


def test_what_comes_after_the_end_changes_neither_features_nor_gradients(theirs: Any) -> None:
    tower = ours(theirs, torch.float64)
    g = torch.Generator().manual_seed(1)
    context = torch.randn(2, 3, WIDTH, generator=g, dtype=torch.float64).requires_grad_()
    start, tail = tower.embed(tokens(NAMES)[:, :1]), tower.embed(tokens(NAMES)[:, 1:-3])
    whole = torch.cat([start, context[0].expand(3, -1, -1), tail], 1)
    uncut = torch.stack([_alone(tower, whole[c], end) for c, end in enumerate((6, 8, 6))])
    cut = class_features(tower, tokens(NAMES), context)[0]
    torch.testing.assert_close(cut, uncut, rtol=0, atol=1e-12)
    (wanted,) = torch.autograd.grad(uncut.square().sum(), context)
    (got,) = torch.autograd.grad(cut.square().sum(), context)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_a_name_that_leaves_no_room_for_the_context_is_refused(theirs: Any) -> None:
    tower = ours(theirs)
    with pytest.raises(InputError, match="a class name of 6 tokens leaves no room for 11 of"):
        class_features(tower, tokens(NAMES), torch.zeros(1, 11, WIDTH))
    assert class_features(tower, tokens(NAMES), torch.zeros(1, 10, WIDTH)).shape == (1, 3, D)


def test_what_fills_a_row_passes_through_no_layer(theirs: Any) -> None:
    """Not a number there would spread by any product."""
    rows = tokens([[3, 4, 5], [7]])
    end = (rows == END).int().argmax(1)
    tower = ours(theirs)
    x = tower.embed(rows)
    first = torch.randn(1, 2, WIDTH, generator=torch.Generator().manual_seed(5))
    after = torch.arange(LENGTH) > end[:, None]
    poisoned = x.masked_fill(after[..., None], torch.nan)
    for before in (None, first):
        got = tower.features(poisoned, end, before)
        assert torch.equal(got, tower.features(x, end, before))
        assert got.isfinite().all()
