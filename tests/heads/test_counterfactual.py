"""Counterfactual edits against a search that weighs every candidate from the start."""

import torch
from torch import Tensor

from cacheclip.heads.counterfactual import distractors, minimal_edits, partners
from cacheclip.task import unit


def normal(*shape: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def weighed(x: Tensor, other: Tensor, own: Tensor, rival: Tensor) -> Tensor:
    """The edits of one feature [D], every changed feature written out."""
    edited = torch.zeros(len(x), dtype=torch.bool)
    now = x.clone()
    while now @ rival <= now @ own and not edited.all():
        changed = {}
        for d in (~edited).nonzero()[:, 0].tolist():
            tried = now.clone()
            tried[d] = other[d]
            changed[d] = float(unit(tried) @ rival)
        best = max(changed, key=lambda d: changed[d])
        now[best], edited[best] = other[best], True
    return edited


def test_edits_are_those_of_a_search_that_weighs_every_candidate() -> None:
    n, D = 40, 9
    x, other, own, rival = (unit(normal(n, D, seed=k)) for k in range(4))
    expected = torch.stack(
        [weighed(*(part[k] for part in (x, other, own, rival))) for k in range(n)]
    )
    edited = minimal_edits(x, other, own, rival)
    assert torch.equal(edited, expected)
    counts = edited.sum(1)
    assert {0, D} < set(counts.tolist())  # a rival ahead from the start, one that never is, others
    changed = x.where(~edited, other)
    ahead = (changed * rival).sum(1) > (changed * own).sum(1)
    assert torch.equal(ahead | (counts == D), torch.ones(n, dtype=torch.bool))


def test_an_edit_does_not_depend_on_the_features_beside_it() -> None:
    parts = [unit(normal(1300, 6, seed=k)) for k in range(4)]  # more than run together
    whole = minimal_edits(*parts)
    assert torch.equal(whole[1021:1030], minimal_edits(*(part[1021:1030] for part in parts)))


def test_a_distractor_is_the_nearest_other_class_that_has_pictures() -> None:
    text = unit(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.7, 0.4], [-1.0, 0.2]]))
    labels = torch.tensor([[0, 1, 2, 3], [0, 2, 3, 3], [2, 2, 2, 2]])
    found = distractors(text, labels).tolist()
    assert found == [[1, 0, 1, 2], [2, 0, 0, 2], [2, 2, 2, 2]]


def test_a_partner_is_a_picture_of_the_class_that_is_wanted() -> None:
    labels = torch.tensor([[2, 0, 2, 1, 0, 2]])
    wanted = torch.tensor([[0, 2, 1, 2, 2, 2]])
    first, last = (
        partners(labels, wanted, torch.full((1, 6), share)).tolist() for share in (0.0, 1.0)
    )
    assert first == [[1, 0, 3, 0, 0, 0]]
    assert last == [[4, 5, 3, 5, 5, 5]]
