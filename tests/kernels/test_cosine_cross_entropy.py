from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from cacheclip.kernels import cosine_cross_entropy as op
from cacheclip.kernels.launch import Workspace

Close = Callable[..., None]
SCALE = 30.0
#        V, B, C, D
SIZES = [(1, 1, 1, 1), (3, 5, 129, 3), (2, 3, 5, 127), (1, 129, 3, 129), (2, 127, 127, 5)]


def problem(
    device: str, dtype: torch.dtype, V: int, B: int, C: int, D: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y [V,B,D] of any length, unit text [V,C,D], labels [V,B], dloss [V]."""
    make = torch.Generator().manual_seed(V * 1000 + D)
    y = 3 * torch.randn(V, B, D, generator=make)
    text = normalize(torch.randn(V, C, D, generator=make), dim=-1)
    labels = torch.randint(C, (V, B), generator=make)
    dloss = torch.randn(V, generator=make)
    return y.to(device, dtype), text.to(device, dtype), labels.to(device), dloss.to(device)


def results(
    function: Callable[..., Tensor], y: Tensor, text: Tensor, labels: Tensor, dloss: Tensor
) -> list[Tensor]:
    y, text = y.detach().requires_grad_(), text.detach().requires_grad_()
    loss = function(y, text, labels, SCALE)
    return [loss.detach(), *torch.autograd.grad(loss, (y, text), dloss.to(loss.dtype))]


def exact(y: Tensor, text: Tensor, labels: Tensor, dloss: Tensor) -> list[Tensor]:
    return results(op.reference, y.double(), text.double(), labels, dloss)


def test_the_reference_is_cross_entropy_of_scaled_cosines(device: str, close: Close) -> None:
    y, text, labels, _ = problem(device, torch.float64, 2, 5, 7, 9)
    logits = SCALE * normalize(y, dim=-1) @ text.mT
    want = [cross_entropy(logits[v], labels[v]) for v in range(2)]
    close([op.reference(y, text, labels, SCALE)], [torch.stack(want)], torch.float64)


@pytest.mark.parametrize("sizes", SIZES)
def test_float32(path: str, device: str, close: Close, sizes: tuple[int, ...]) -> None:
    case = problem(device, torch.float32, *sizes)
    close(results(op.cosine_cross_entropy, *case), exact(*case), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(path: str, device: str, close: Close, dtype: torch.dtype) -> None:
    case = problem(device, dtype, 2, 35, 70, 33)
    got = results(op.cosine_cross_entropy, *case)
    assert [t.dtype for t in got] == [torch.float32, dtype, dtype]
    close(got, exact(*case), dtype)


def test_text_and_labels_that_all_variants_share(path: str, device: str, close: Close) -> None:
    y, text, labels, dloss = problem(device, torch.float32, 3, 5, 7, 9)
    case = (y, text[0], labels[0], dloss)
    close(results(op.cosine_cross_entropy, *case), exact(*case), torch.float32)


def test_transposed_inputs(path: str, device: str, close: Close) -> None:
    y, text, labels, dloss = problem(device, torch.float32, 2, 5, 7, 9)
    y, text, labels = (t.mT.contiguous().mT for t in (y, text, labels))
    close(
        results(op.cosine_cross_entropy, y, text, labels, dloss),
        exact(y, text, labels, dloss),
        torch.float32,
    )


@pytest.mark.parametrize("setting", [(0, 2), (1, 2)], indirect=True)
def test_every_setting(setting: None, device: str, close: Close) -> None:
    case = problem(device, torch.float32, 2, 35, 70, 67)
    close(results(op.cosine_cross_entropy, *case), exact(*case), torch.float32)


def test_float64_gradcheck(device: str) -> None:
    y, text, labels, _ = problem(device, torch.float64, 2, 3, 4, 5)
    y, text = y.requires_grad_(), text.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: op.cosine_cross_entropy(a, b, labels, 3.0), (y, text)
    )


def test_logits_far_beyond_the_range_of_exp(path: str, device: str) -> None:
    y = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], device=device)
    text = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], device=device)
    right, wrong = torch.tensor([0, 1], device=device), torch.tensor([1, 0], device=device)
    assert op.cosine_cross_entropy(y, text, right, 1000.0).item() == 0.0
    assert op.cosine_cross_entropy(y, text, wrong, 1000.0).item() == 2000.0


def test_a_zero_row_has_the_loss_of_no_knowledge(path: str, device: str) -> None:
    y, text, labels, dloss = problem(device, torch.float32, 1, 3, 4, 5)
    y = torch.zeros_like(y)
    loss, dy, dtext = results(op.cosine_cross_entropy, y, text, labels, dloss)
    assert loss.item() == pytest.approx(torch.tensor(4.0).log().item())
    assert dy.isfinite().all() and not dtext.any()


def test_nan_stays_in_its_variant(path: str, device: str) -> None:
    y, text, labels, _ = problem(device, torch.float32, 2, 3, 4, 5)
    y[1, 2, 3] = float("nan")
    loss = op.cosine_cross_entropy(y, text, labels, SCALE)
    assert loss[0].isfinite() and loss[1].isnan()


def test_one_workspace_serves_step_after_step(path: str, device: str, close: Close) -> None:
    work = Workspace()
    for scale in (1.0, 0.5):
        y, text, labels, dloss = problem(device, torch.float32, 2, 5, 7, 9)
        case = (y * scale, text, labels, dloss)
        loss, saved = op.forward(*case[:3], SCALE, work=work)
        grads = op.backward(saved, dloss, SCALE, wants_text=True, work=work)
        assert grads.text is not None
        close([loss, grads.y, grads.text], exact(*case), torch.float32)


def test_arguments_that_do_not_fit() -> None:
    y, text, labels = torch.zeros(2, 3, 5), torch.zeros(4, 5), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"y must be \[V,B,D\]"):
        op.cosine_cross_entropy(y[0], text, labels, 1.0)
    with pytest.raises(ValueError, match=r"text must be \[C,5\] or \[2,C,5\]"):
        op.cosine_cross_entropy(y, text[:, :4], labels, 1.0)
    with pytest.raises(ValueError, match="they must agree"):
        op.cosine_cross_entropy(y, text.half(), labels, 1.0)
    with pytest.raises(ValueError, match="labels must be int64"):
        op.cosine_cross_entropy(y, text, labels[:2], 1.0)
