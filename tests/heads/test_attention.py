"""Attention against torch's own, head by head."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from cacheclip.heads.attention import attend, seen
from tests.methods.explicit import normal

V, Q, M, D = 2, 3, 5, 8


def test_it_is_torch_s_attention_in_each_head() -> None:
    q, k, v = (normal(V, n, D, seed=s) for s, n in enumerate((Q, M, M)))
    for heads in (1, 2, 8):
        a, b, c = (x.view(V, -1, heads, D // heads).transpose(1, 2) for x in (q, k, v))
        want = scaled_dot_product_attention(a, b, c).transpose(1, 2).reshape(V, Q, D)
        torch.testing.assert_close(attend(q, k, v, heads), want, rtol=0, atol=1e-12)


def test_a_query_for_all_looks_at_the_keys_of_each() -> None:
    q, k, v = normal(1, Q, D, seed=3), normal(V, M, D, seed=4), normal(V, M, 6, seed=5)
    each = [attend(q[0], k[i], v[i], 2) for i in range(V)]
    torch.testing.assert_close(attend(q, k, v, 2), torch.stack(each), rtol=0, atol=1e-12)


def test_what_agrees_with_all_alike_sees_their_mean() -> None:
    v = normal(M, D, seed=6)
    torch.testing.assert_close(seen(torch.full((Q, M), 3.0).double(), v)[0], v.mean(0))
