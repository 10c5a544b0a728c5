from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from cacheclip.kernels import launch

# Relative error of a whole array; 16-bit gradients are products of rounded factors.
TOLERANCE = {
    torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 5e-3, torch.bfloat16: 3e-2
}  # fmt: skip


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() and not launch.INTERPRET else "cpu"


@pytest.fixture(params=["triton", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, device: str) -> str:
    """Both ways to run an op: the kernel, interpreted where there is no GPU, and plain torch."""
    if request.param == "torch":
        monkeypatch.setattr(launch, "uses_triton", lambda x: False)
    elif not launch.uses_triton(torch.ones(1, device=device)):
        pytest.skip("neither a GPU nor TRITON_INTERPRET=1")
    return str(request.param)


@pytest.fixture(params=[(k, 3) for k in range(3)], ids=str)
def setting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each launch setting in turn, where otherwise a GPU shows its fastest and we the first.

    The parameter is a setting's number and how many there are: three, unless a test says fewer.
    """
    run = launch.run
    number, count = request.param

    def one(kernel: Any, grid: Any, arguments: Any, settings: Any, trial: Any = None) -> None:
        assert len(settings) <= count
        run(kernel, grid, arguments, settings[number:][:1] or settings[-1:])

    monkeypatch.setattr(launch, "run", one)


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote is NaN, so an element left out shows."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def filled(*arguments: Any, **options: Any) -> Tensor:
            new = make(*arguments, **options)
            return new.fill_(float("nan") if new.is_floating_point() else 2**31 - 1)

        return filled

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))


@pytest.fixture
def close() -> Callable[..., None]:
    """close(got, want, dtype): arrays agree with their float64 references."""

    def check(
        got: Iterable[Tensor], want: Iterable[Tensor], dtype: torch.dtype, slack: float = 1.0
    ) -> None:
        for place, (ours, exact) in enumerate(zip(got, want, strict=True)):
            assert ours.shape == exact.shape
            error = (ours.double() - exact).norm()
            assert error <= slack * TOLERANCE[dtype] * exact.norm() + 1e-30, (
                place,
                error / exact.norm(),
            )

    return check
