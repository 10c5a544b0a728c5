"""Training in bfloat16: where it is taken, that it learns the same, and where it must not be."""

import pytest
import torch

from cacheclip.engine import precision, stack as engine
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Query, Task, unit

C, SHOTS = 6, 60


def make_task(D: int, dtype: torch.dtype = torch.float32) -> Task:
    g = torch.Generator().manual_seed(0)
    centres = unit(torch.randn(C, D, generator=g))
    labels = torch.arange(C).repeat_interleave(SHOTS)
    x = unit(centres[labels] + 3 / D**0.5 * torch.randn(C * SHOTS, D, generator=g))
    text = unit(centres + 2 / D**0.5 * torch.randn(C, D, generator=g))
    return Task(
        pool={"image": x.to(dtype)},
        rows=torch.arange(C * SHOTS).expand(2, -1),
        labels=labels.expand(2, -1),
        text={"norm-mean": text.to(dtype)},
        settings={
            "alpha": torch.full((2,), 0.4, dtype=dtype),
            "lr": torch.full((2,), 1e-3, dtype=dtype),
            "weight_decay": torch.zeros(2, dtype=dtype),
        },
        logit_scale=50.0,
        n_classes=C,
    )


def adapter(**settings: str | int) -> ClipAdapter:
    usual: dict[str, str | int] = {"epochs": 20, "batch_size": 256, "optimizer": "adamw"}
    return ClipAdapter(**(usual | settings))


@pytest.fixture
def _with_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)


@pytest.mark.usefixtures("_with_hardware")
def test_auto_takes_bfloat16_for_large_batches_of_wide_pictures_and_nothing_else() -> None:
    wide = make_task(256)
    assert precision.training_dtype(adapter(), wide) == torch.bfloat16
    assert precision.training_dtype(adapter(precision="fp32"), wide) == torch.float32
    assert precision.training_dtype(adapter(batch_size=32), wide) == torch.float32
    assert precision.training_dtype(adapter(branch="both"), wide) == torch.float32
    assert precision.training_dtype(adapter(), make_task(64)) == torch.float32
    assert precision.training_dtype(adapter(), make_task(256, torch.float64)) == torch.float64


def test_what_is_left_to_autograd_stays_in_float32() -> None:
    task, method = make_task(520), adapter(precision="bf16", reduction=1, epochs=1)
    assert engine.precision(method, task) == "fp32"  # wider than the kernel holds
    ((_, _, params),) = engine.fit(method, task, [1, 2], lambda share: None, 10**9)
    assert params["up"].isfinite().all()


def test_without_hardware_auto_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert precision.training_dtype(adapter(), make_task(256)) == torch.float32
    assert precision.training_dtype(adapter(precision="bf16"), make_task(256)) == torch.bfloat16


def test_bfloat16_learns_what_float32_learns() -> None:
    task = make_task(64)
    query = Query({"image": task.pool["image"]})
    logits = []
    for name in ("fp32", "bf16"):
        method = adapter(precision=name)
        assert engine.precision(method, task) == name
        ((_, _, params),) = engine.fit(method, task, [1, 2], lambda share: None, 10**9)
        assert params["up"].dtype == torch.float32
        logits.append(method.logits(params, query))
    exact, rounded = logits
    assert not torch.equal(exact, rounded)
    assert (exact.argmax(-1) == rounded.argmax(-1)).float().mean() > 0.98
    assert (exact - rounded).norm() < 0.05 * exact.norm()


def test_the_check_passes_where_products_round_and_fails_where_they_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    precision._is_exact_enough.cache_clear()
    assert precision._is_exact_enough()
    precision._is_exact_enough.cache_clear()
    monkeypatch.setattr(precision, "LARGEST_ERROR", 1e-4)
    assert not precision._is_exact_enough()
    precision._is_exact_enough.cache_clear()
