"""A kernel over the features of one or two encoders, and its likeliest constants.

    k = (1 - share) k_1 + share k_2        k_e(u, v) = exp(-width (1 - u v) / d_e)

for unit features u, v of encoder e, with d_e the mean of 1 - u v over pairs of the support, so that
one width serves encoders whose features lie closer together or wider apart.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from cacheclip.heads.ridge import Ridge, rbf
from cacheclip.task import Query

MOST = 1024  # support pictures that the evidence is taken of
LEAST = 1e-6  # of a mean distance: closer rows are the same


def kernel_of(support: Query) -> dict[str, Tensor]:
    """The rows that the kernel is to, `keys` [V, N, D] and `span` d [V]; of the second encoder too.

    Args:
        support: `image` [V, N, D], unit rows; `aux:image` [V, N, D'], where there is one.
    """
    made = {"keys": support["image"], "span": _mean_distance(support["image"])}
    if "aux:image" in support.layers:
        other = support["aux:image"]
        made |= {"aux_keys": other, "aux_span": _mean_distance(other)}
    return made


def nearness(params: Mapping[str, Tensor], query: Query) -> Tensor:
    """The kernel between pictures and the support, [V, n, N].

    Args:
        params: of `kernel_of`, with `width` and, of two encoders, `share` [V].
        query: the same layers, [n, D] or [V, n, D].
    """
    near = rbf(query["image"], params["keys"], params["width"] / params["span"])
    if "aux_keys" not in params:
        return near
    other = rbf(query["aux:image"], params["aux_keys"], params["width"] / params["aux_span"])
    return near.lerp(other, params["share"][:, None, None])


def likeliest(
    params: Mapping[str, Tensor], left: Tensor, grid: Mapping[str, Sequence[float]]
) -> dict[str, Tensor]:
    """The share, width and noise [V] of the greatest evidence, of equals the first.

    Args:
        params: of `kernel_of`, and share, width and noise [V] where the grid has none.
        left: [V, N, C], what the process is to explain of the support, of which at most `MOST`
            rows are taken, evenly spaced.
        grid: setting -> what is tried of it.
    """
    step = -(-left.shape[1] // MOST)
    part = {n: x[:, ::step] if n.endswith("keys") else x for n, x in params.items()}
    layers = {"keys": "image", "aux_keys": "aux:image"}
    rows = Query({own: part[name] for name, own in layers.items() if name in part})
    names = ("share", "width", "noise_ratio")
    shares, widths, noises = (
        [params[name].new_full(left.shape[:1], value) for value in grid[name]]
        if name in grid
        else [params[name]]
        for name in names
    )
    best = left.new_full(left.shape[:1], -torch.inf, dtype=torch.float64)
    found = {name: params[name] for name in names}
    for share, width in product(shares, widths):
        ridge = Ridge(nearness(part | {"share": share, "width": width}, rows), left[:, ::step])
        for noise in noises:
            evidence = ridge.evidence(noise)
            point = {"share": share, "width": width, "noise_ratio": noise}
            found = {n: torch.where(evidence > best, point[n], found[n]) for n in names}
            best = torch.maximum(best, evidence)
    return found


def _mean_distance(x: Tensor) -> Tensor:
    """The mean of 1 - u v over pairs of unit rows x [V, N, D]: [V]; 1 of a single row."""
    n = x.shape[1]
    if n == 1:
        return x.new_ones(len(x))
    return ((1 - x.mean(1).square().sum(-1)) * n / (n - 1)).clamp_min(LEAST)
