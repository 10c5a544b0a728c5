from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cacheclip.kernels import weight_grad_update as op
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import Outer, Rates, Rule

Close = Callable[..., None]
RULES = {
    "adamw": Rule("adamw"),
    "adam": Rule("adam"),
    "sgd": Rule("sgd"),
    "plain": Rule("sgd", momentum=0.0),
    "nesterov": Rule("sgd", nesterov=True),
}
#        V, B, m, n
SIZES = [(1, 1, 1, 1), (3, 5, 127, 3), (2, 129, 3, 129), (1, 3, 129, 5)]


def problem(
    device: str, V: int, B: int, m: int, n: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, list[Outer], Tensor, Tensor]:
    """A weight, three steps' gradients, and each variant's lr and weight decay."""
    make = torch.Generator().manual_seed(V * 1000 + m)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make).to(device)

    outers = [Outer(normal(V, B, m).to(dtype), normal(V, B, n).to(dtype)) for _ in range(3)]
    return normal(V, m, n), outers, normal(V).abs() * 0.1, normal(V).abs()


def rates(weight: Tensor, lr: Any, decay: Any, step: int) -> Rates:
    each = torch.ones(len(weight), device=weight.device)
    return Rates.of(lr * each, decay * each, step)


def each(outer: Outer, change: Callable[[Tensor], Tensor]) -> Outer:
    """The outer with a change made to all that it has."""
    parts = {name: getattr(outer, name) for name in ("a", "b", "own", "pull", "anchor")}
    return Outer(**{name: change(x) for name, x in parts.items() if x is not None})


def remembering(weight: Tensor, outers: list[Outer], seed: int = 0) -> list[Outer]:
    """The outers with terms of the weight and of an anchor, different at each step."""
    make = torch.Generator().manual_seed(seed)
    V, m, n = weight.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make).to(weight.device)

    return [Outer(o.a, o.b, normal(V, m), normal(V, m), normal(V, m, n)) for o in outers]


def train(
    weight: Tensor,
    grads: list[Any],
    rule: Rule,
    lr: Any,
    decay: Any,
    work: Workspace | None = None,
) -> list[Tensor]:
    weight = weight.clone()
    state = rule.state(weight)
    for step, grad in enumerate(grads, 1):
        op.weight_grad_update(weight, grad, state, rule, rates(weight, lr, decay, step), work=work)
    return [weight, *state]


def exact(
    weight: Tensor, grads: list[Outer], rule: Rule, lr: Tensor, decay: Tensor
) -> list[Tensor]:
    weight = weight.double()
    state = rule.state(weight)
    for step, grad in enumerate(grads, 1):
        outer = each(grad, Tensor.double)
        weight, state = op.reference(weight, outer, state, rule, rates(weight, lr, decay, step))
    return [weight, *state]


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Rule:
    return RULES[request.param]


def test_the_reference_is_the_optimizer_of_torch(device: str, close: Close, rule: Rule) -> None:
    weight, grads, lr, decay = problem(device, 1, 5, 3, 4)
    theirs = torch.nn.Parameter(weight.double())
    shared: dict[str, Any] = {"lr": lr.item(), "weight_decay": decay.item()}
    made: torch.optim.Optimizer
    if rule.optimizer == "sgd":
        own = {"momentum": rule.momentum, "nesterov": rule.nesterov}
        made = torch.optim.SGD([theirs], **own, **shared)
    else:
        kind = torch.optim.AdamW if rule.optimizer == "adamw" else torch.optim.Adam
        made = kind([theirs], **shared)
    for grad in grads:
        theirs.grad = grad.a.double().mT @ grad.b.double()
        made.step()
    ours = exact(weight, grads, rule, lr, decay)
    close(ours[:1], [theirs.detach()], torch.float64)


def test_plain_steps_remember_nothing(device: str) -> None:
    weight, *_ = problem(device, 2, 1, 3, 4)
    assert [len(rule.state(weight)) for rule in RULES.values()] == [2, 2, 1, 0, 1]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("optimizer", op.MOMENTS)
def test_float32(
    path: str, device: str, close: Close, optimizer: op.Optimizer, sizes: tuple[int, int, int, int]
) -> None:
    weight, grads, lr, decay = problem(device, *sizes)
    rule = Rule(optimizer)
    close(train(weight, grads, rule, lr, decay), exact(weight, grads, rule, lr, decay), lr.dtype)


def test_own_and_pull_are_the_gradient_of_their_penalties(device: str, close: Close) -> None:
    weight, grads, *_ = problem(device, 3, 5, 19, 7)
    weight = weight.double().requires_grad_()
    (outer, *_) = (each(o, Tensor.double) for o in remembering(weight.detach(), grads))
    assert outer.own is not None and outer.pull is not None and outer.anchor is not None
    energy = (outer.a @ weight * outer.b).sum() + (outer.own[..., None] * weight**2 / 2).sum()
    energy -= (outer.pull[..., None] * outer.anchor * weight).sum()
    (wanted,) = torch.autograd.grad(energy, weight)
    close([outer.formed(weight.detach())], [wanted], torch.float64)


def test_float32_with_a_memory_of_the_weight(
    path: str, device: str, close: Close, rule: Rule
) -> None:
    weight, grads, lr, decay = problem(device, 2, 3, 35, 5)
    grads = remembering(weight, grads)
    close(train(weight, grads, rule, lr, decay), exact(weight, grads, rule, lr, decay), lr.dtype)


def test_half_precision_factors_keep_the_memory_exact(path: str, device: str, close: Close) -> None:
    weight, grads, lr, decay = problem(device, 2, 35, 33, 67, torch.bfloat16)
    grads = remembering(weight, grads)
    got = train(weight, grads, Rule("sgd"), lr, decay)
    close(got, exact(weight, grads, Rule("sgd"), lr, decay), torch.bfloat16)
    nothing = [replace(o, a=o.a * 0) for o in grads]
    got = train(weight, nothing, Rule("sgd"), lr, decay)
    close(got, exact(weight, nothing, Rule("sgd"), lr, decay), torch.float32)


@pytest.mark.parametrize("left_out", ["own", "pull"])
def test_rows_and_anchors_may_be_shared_or_absent(
    path: str, device: str, close: Close, left_out: str
) -> None:
    weight, grads, lr, decay = problem(device, 3, 5, 19, 7)
    made = []
    for o in remembering(weight, grads):
        assert o.own is not None and o.pull is not None and o.anchor is not None
        if left_out == "own":  # one strength a variant; one anchor for all, transposed in memory
            anchor = o.anchor[0].T.contiguous().T
            made.append(Outer(o.a, o.b, pull=o.pull[:, :1], anchor=anchor))
        else:
            made.append(Outer(o.a, o.b, own=o.own[:, :1]))
    got = train(weight, made, Rule(), lr, decay)
    close(got, exact(weight, made, Rule(), lr, decay), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_factors(path: str, device: str, close: Close, dtype: torch.dtype) -> None:
    weight, grads, lr, decay = problem(device, 2, 35, 33, 67, dtype)
    got = train(weight, grads, Rule(), lr, decay)
    assert {t.dtype for t in got} == {torch.float32}
    close(got, exact(weight, grads, Rule(), lr, decay), dtype)


def test_transposed_factors_and_one_shared_by_all_variants(
    path: str, device: str, close: Close
) -> None:
    weight, grads, lr, decay = problem(device, 3, 5, 19, 7)
    grads = [Outer(o.a.mT.contiguous().mT, o.b[:1].expand(3, -1, -1)) for o in grads]
    got = train(weight, grads, Rule(), lr, decay)
    close(got, exact(weight, grads, Rule(), lr, decay), torch.float32)


def test_every_setting(setting: None, device: str, close: Close) -> None:
    weight, grads, lr, decay = problem(device, 2, 70, 67, 130)
    grads = remembering(weight, grads)
    got = train(weight, grads, Rule(), lr, decay)
    close(got, exact(weight, grads, Rule(), lr, decay), torch.float32)


def test_a_dense_gradient_takes_the_same_step(
    path: str, device: str, close: Close, rule: Rule
) -> None:
    weight, grads, lr, decay = problem(device, 3, 5, 19, 7)
    dense = [op.weight_grad(g, torch.float32) for g in grads]
    close(train(weight, dense, rule, lr, decay), exact(weight, grads, rule, lr, decay), lr.dtype)


def test_a_dense_gradient_may_be_transposed(device: str, close: Close, rule: Rule) -> None:
    """Autograd gives such gradients, and the fused steps of torch read memory, not strides."""
    weight, outers, lr, decay = problem(device, 2, 5, 3, 4)
    dense = [(o.b.mT @ o.a).mT for o in outers]  # [V,m,n], its axes swapped in memory
    assert not dense[0].is_contiguous()
    expected = exact(weight, outers, rule, lr, decay)
    close(train(weight, dense, rule, lr, decay), expected, torch.float32)


def test_each_variant_has_its_own_rate_and_decay(path: str, device: str) -> None:
    weight, grads, _, _ = problem(device, 3, 5, 19, 7)
    grads = remembering(weight, grads)
    lr, decay = torch.tensor([0.1, 0.0, 0.1]), torch.tensor([0.5, 0.5, 0.0])
    together = train(weight, grads, Rule(), lr.to(device), decay.to(device))
    assert torch.equal(together[0][1], weight[1])
    for v in range(3):
        mine = [each(o, lambda x, v=v: x[v : v + 1]) for o in grads]  # type: ignore[misc]
        alone = train(weight[v : v + 1], mine, Rule(), lr[v].item(), decay[v].item())
        torch.testing.assert_close(together[0][v], alone[0][0], rtol=1e-5, atol=1e-6)


def test_a_step_counted_on_the_device_and_held_memory_change_nothing(
    path: str, device: str
) -> None:
    weight, grads, lr, decay = problem(device, 2, 5, 19, 7)
    want = train(weight, grads, Rule(), lr, decay)
    state, step, work = Rule().state(weight), torch.tensor(0, device=device), Workspace()
    for grad in grads:
        step += 1
        op.weight_grad_update(weight, grad, state, Rule(), Rates.of(lr, decay, step), work=work)
    assert all(torch.equal(a, b) for a, b in zip((weight, *state), want, strict=True))


def test_float64_runs_in_torch(device: str, close: Close) -> None:
    weight, grads, lr, decay = problem(device, 2, 5, 19, 7)
    grads = [each(o, Tensor.double) for o in remembering(weight, grads)]
    got = train(weight.double(), grads, Rule(), lr.double(), decay.double())
    close(got, exact(weight, grads, Rule(), lr, decay), torch.float32)


def test_arguments_that_do_not_fit() -> None:
    weight, grads, lr, _ = problem("cpu", 2, 5, 19, 7)
    state = Rule().state(weight)
    for broken, message in (
        ({"weight": weight.half()}, "float32 weights"),
        ({"weight": weight.mT.contiguous().mT}, "contiguous"),
        ({"state": state[:1]}, "adamw has 2 moments, not 1"),
        ({"grad": Outer(grads[0].a, grads[0].b.half())}, "of one dtype"),
        ({"rates": Rates.of(lr[:1], lr[:1])}, "rates are for 1 variants, not 2"),
        ({"grad": Outer(grads[0].b, grads[0].a)}, r"gradient \[2, 7, 19\] does not fit"),
        ({"grad": replace(grads[0], own=weight)}, r"own \[2, 19, 7\] torch.float32 does not fit"),
        ({"grad": replace(grads[0], own=lr.double()[:, None])}, "float64 does not fit"),
        ({"grad": replace(grads[0], anchor=weight)}, "both pull and anchor, or neither"),
    ):
        arguments = {"weight": weight, "grad": grads[0], "state": state}
        arguments |= {"rates": Rates.of(lr, lr)} | broken
        with pytest.raises(ValueError, match=message):
            op.weight_grad_update(rule=Rule(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'lion' is none of adamw, adam, sgd"):
        Rule("lion")  # type: ignore[arg-type]
