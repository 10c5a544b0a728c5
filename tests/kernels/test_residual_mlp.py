from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from cacheclip.kernels import residual_mlp as op
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import Outer

Close = Callable[..., None]
residual_mlp: Callable[..., Tensor] = op.residual_mlp
forward: Callable[..., tuple[Tensor, op.Saved]] = op.forward
#        V, N, B, D, H
SIZES = [(1, 1, 1, 1, 1), (3, 5, 3, 127, 5), (2, 3, 129, 5, 127), (1, 129, 5, 129, 3)]


def problem(
    device: str, dtype: torch.dtype, V: int, N: int, B: int, D: int, H: int, weights: Any = None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """x, w1, w2, alpha; rows [V,B]; dz [V,B,D]. The weights' scale keeps both relus half open."""
    make = torch.Generator().manual_seed(V * 1000 + D)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=make).mul(scale).to(device)

    inputs = [
        normal(N, D).to(dtype),
        normal(V, H, D, scale=D**-0.5).to(weights or dtype),
        normal(V, D, H, scale=H**-0.5).to(weights or dtype),
        torch.rand(V, generator=make).to(device),
    ]
    rows = torch.randint(N, (V, B), generator=make).to(device)
    return inputs, rows, normal(V, B, D).to(dtype)


def results(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], dz: Tensor, **options: Any
) -> list[Tensor]:
    """The output and the gradient of every input."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    z = function(*inputs, **options)
    return [z.detach(), *torch.autograd.grad(z, inputs, dz.to(z.dtype))]


def exact(inputs: Sequence[Tensor], dz: Tensor, **options: Any) -> list[Tensor]:
    return results(op.reference, [t.double() for t in inputs], dz, **options)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_float32_with_gathered_rows(
    path: str, device: str, close: Close, sizes: tuple[int, ...], normalize: bool
) -> None:
    inputs, rows, dz = problem(device, torch.float32, *sizes)
    options = {"rows": rows, "normalize": normalize}
    close(
        results(residual_mlp, inputs, dz, **options),
        exact(inputs, dz, **options),
        torch.float32,
    )


@pytest.mark.parametrize("weights", [None, torch.float32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(
    path: str, device: str, close: Close, dtype: torch.dtype, weights: torch.dtype | None
) -> None:
    inputs, rows, dz = problem(device, dtype, 2, 9, 35, 67, 21, weights)
    got = results(residual_mlp, inputs, dz, rows=rows)
    assert [t.dtype for t in got[:3]] == [dtype, dtype, weights or dtype]
    rounded = [*(t.to(dtype) for t in inputs[:3]), inputs[3]]  # as the products read the weights
    # Of 1000 relus within a rounding of zero a few close or open: an error of their square root.
    close(got, exact(rounded, dz, rows=rows), dtype, slack=3)


@pytest.mark.parametrize("form", ["all rows", "shared rows", "x of each variant", "both"])
def test_forms_of_x_and_rows(path: str, device: str, close: Close, form: str) -> None:
    inputs, rows, dz = problem(device, torch.float32, 3, 5, 5, 19, 7)
    if form in ("x of each variant", "both"):
        inputs[0] = torch.randn(3, 5, 19, generator=torch.Generator().manual_seed(1)).to(device)
    picked = {"all rows": None, "shared rows": rows[0], "x of each variant": None, "both": rows}
    options = {"rows": picked[form]}
    close(
        results(residual_mlp, inputs, dz, **options),
        exact(inputs, dz, **options),
        torch.float32,
    )


def test_transposed_inputs(path: str, device: str, close: Close) -> None:
    inputs, rows, dz = problem(device, torch.float32, 2, 5, 3, 19, 33)
    inputs = [t.mT.contiguous().mT if t.ndim > 1 else t for t in inputs]
    dz, rows = dz.transpose(0, 2).contiguous().transpose(0, 2), rows.T.contiguous().T
    assert not any(t.is_contiguous() for t in (*inputs[:3], dz, rows))
    close(
        results(residual_mlp, inputs, dz, rows=rows),
        exact(inputs, dz, rows=rows),
        torch.float32,
    )


@pytest.mark.parametrize("setting", [(0, 2), (1, 2)], indirect=True)
def test_every_setting_with_the_widest_hidden_layer(
    setting: None, device: str, close: Close
) -> None:
    inputs, rows, dz = problem(device, torch.float32, 2, 3, 19, 35, 500)
    close(
        results(residual_mlp, inputs, dz, rows=rows),
        exact(inputs, dz, rows=rows),
        torch.float32,
    )


def test_float64_gradcheck(device: str) -> None:
    inputs, rows, _ = problem(device, torch.float64, 2, 3, 4, 5, 3)
    inputs = [t.double().requires_grad_() for t in inputs]
    for normalize in (True, False):
        assert torch.autograd.gradcheck(
            lambda *a, n=normalize: residual_mlp(*a, rows, normalize=n), inputs
        )


def test_one_alpha_for_all_variants_learns(path: str, device: str, close: Close) -> None:
    inputs, rows, dz = problem(device, torch.float32, 3, 5, 4, 19, 7)
    inputs[3] = torch.tensor(0.3, device=device)
    close(
        results(residual_mlp, inputs, dz, rows=rows),
        exact(inputs, dz, rows=rows),
        torch.float32,
    )


def test_alpha_zero_gives_the_features_back(path: str, device: str) -> None:
    (x, w1, w2, _), rows, _ = problem(device, torch.float32, 2, 5, 3, 9, 4)
    assert torch.equal(residual_mlp(x, w1, w2, 0.0, rows, normalize=False), x[rows])


def test_a_dead_adapter_gives_zeros_and_finite_gradients(path: str, device: str) -> None:
    (x, w1, w2, _), rows, dz = problem(device, torch.float32, 2, 5, 3, 9, 4)
    one = torch.ones(2, device=device)
    z, *gradients = results(residual_mlp, [x, w1, -w2.abs(), one], dz, rows=rows)
    assert not z.any()
    assert all(g.isfinite().all() for g in gradients)


def test_nan_stays_in_its_variant(path: str, device: str) -> None:
    (x, w1, w2, alpha), rows, _ = problem(device, torch.float32, 2, 5, 3, 9, 4)
    for weight in (w1, w2):
        broken = weight.clone()
        broken[1] = float("nan")
        pair = (broken, w2) if weight is w1 else (w1, broken)
        z = residual_mlp(x, *pair, alpha, rows)
        assert z[0].isfinite().all() and z[1].isnan().all()


def test_one_workspace_serves_step_after_step(path: str, device: str, close: Close) -> None:
    work = Workspace()
    for rows_seed in (0, 1):
        inputs, rows, dz = problem(device, torch.float32, 2, 5, 3, 9, 4)
        rows = (rows + rows_seed) % 5
        z, saved = forward(*inputs, rows, work=work)
        grads = op.backward(saved, dz, wants_alpha=True, wants_x=True, work=work)
        formed = [g.a.mT @ g.b for g in grads if isinstance(g, Outer)]
        want = exact(inputs, dz, rows=rows)
        assert grads.alpha is not None and grads.x is not None
        dx = torch.zeros_like(inputs[0]).index_add_(0, rows.flatten(), grads.x.flatten(0, 1))
        close([z, dx, *formed, grads.alpha], want, torch.float32)


@pytest.mark.parametrize("picked", [None, [2, 1, 0]])
def test_addresses_beyond_32_bits(
    path: str, device: str, close: Close, picked: list[int] | None
) -> None:
    """Row 2 starts 2^31 elements in; the pages between are never touched."""
    V, D = 1, 16
    inputs, _, dz = problem(device, torch.bfloat16, V, 3, 3, D, 4)
    storage = torch.UntypedStorage(2 * (2**31 + D), device=device)  # type: ignore[no-untyped-call]
    far = torch.tensor([], dtype=torch.bfloat16, device=device)
    far = far.set_(storage, 0, (3, D), (2**30, 1)).copy_(inputs[0])
    rows = None if picked is None else torch.tensor(picked, device=device)
    z, saved = forward(far, *inputs[1:], rows)
    grads = op.backward(saved, dz)
    want = exact(inputs, dz, rows=rows)
    close([z, grads.w1.a.mT @ grads.w1.b], [want[0], want[2]], torch.bfloat16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w1": (2, 513, 9), "w2": (2, 9, 513)}, "H = 513"),
        ({"w2": (2, 4, 9)}, r"w1 must be \[V,H,D\]"),
        ({"x": (5, 8)}, r"x must be \[N,9\]"),
        ({"x": (3, 5, 9)}, r"\[2,N,9\]"),
        ({"alpha": (3,)}, r"alpha must be a number or \[2\]"),
    ],
)
def test_shapes_that_do_not_fit(change: dict[str, tuple[int, ...]], message: str) -> None:
    shapes = {"x": (5, 9), "w1": (2, 4, 9), "w2": (2, 9, 4), "alpha": (2,)} | change
    with pytest.raises(ValueError, match=message):
        residual_mlp(*(torch.zeros(s) for s in shapes.values()))


def test_dtypes_that_do_not_fit() -> None:
    x, w1, w2 = torch.zeros(5, 9), torch.zeros(2, 4, 9), torch.zeros(2, 9, 4)
    with pytest.raises(ValueError, match=r"need float32 or x's"):
        residual_mlp(x, w1.half(), w2.half(), 0.2)
    with pytest.raises(ValueError, match="rows must be int64"):
        residual_mlp(x, w1, w2, 0.2, torch.zeros(3, dtype=torch.int32))
