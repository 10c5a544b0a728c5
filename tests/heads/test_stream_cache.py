"""Pictures that go through a cache together are held as if they had come one after the other."""

import torch
from torch import Tensor

from cacheclip.heads.stream_cache import through

C, P, N = 3, 2, 40


def one_by_one(own: list[int], entropy: list[float]) -> list[set[int]]:
    """What the cache holds when each picture is answered for, written out."""
    held: dict[int, list[tuple[float, int]]] = {}
    told = []
    for k, (label, value) in enumerate(zip(own, entropy, strict=True)):
        mine = held.setdefault(label, [])
        if value < C:
            mine.append((value, k))
            mine.sort()
            del mine[P:]
        told.append({j for places in held.values() for _, j in places})
    return told


def in_parts(own: Tensor, entropy: Tensor, size: int) -> list[set[int]]:
    """The same through the cache, `size` pictures at once; one variant."""
    held = torch.full((1, C, P), float(C), dtype=torch.float64)
    names = torch.full((1, C * P), -1)
    told = []
    for first in range(0, N, size):
        part = slice(first, first + size)
        passage = through(held, own[:, part], entropy[:, part])
        candidates = torch.cat([names, torch.arange(N)[None, part]], 1)
        told += [set(candidates[0, there].tolist()) for there in passage.there[0]]
        names = passage.kept(candidates)
        held = passage.kept(torch.cat([held.flatten(1), entropy[:, part]], 1)).view(1, C, P)
        assert torch.equal(held, held.sort(-1).values)
    return told


def test_a_cache_holds_what_it_would_one_by_one_with_ties_and_pictures_that_may_not_enter() -> None:
    g = torch.Generator().manual_seed(0)
    own = torch.randint(0, C, (1, N), generator=g)
    entropy = torch.randint(0, 12, (1, N), generator=g).double() / 11  # many are equal
    entropy[0, ::5] = C
    expected = one_by_one(own[0].tolist(), entropy[0].tolist())
    assert len(expected[-1]) == C * P
    for size in (1, 7, 16, N):
        assert in_parts(own, entropy, size) == expected
