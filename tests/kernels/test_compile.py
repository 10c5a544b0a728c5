"""Kernels compiled for GPUs that are not there; `--all` compiles each launch for both, not for one.

What Hopper runs in bfloat16 is compiled launch by launch, and of all else one launch a kernel.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.long
# float16 differs from bfloat16 by one mnemonic, and float32 products are plain on both GPUs.
DTYPES = {90: ("bfloat16", "float32"), 80: ("bfloat16",)}
SHARED = {90: 227 * 1024, 80: 163 * 1024}


@pytest.fixture(scope="module")
def compiled(
    tmp_path_factory: pytest.TempPathFactory, every: bool
) -> Iterator[dict[int, list[dict[str, Any]]]]:
    """Every kernel, compiled for both GPUs at once with an empty cache."""
    script = Path(__file__).with_name("compile_for_gpu.py")
    running = {}
    for capability, dtypes in DTYPES.items():
        cache = str(tmp_path_factory.mktemp(f"sm_{capability}"))
        asked = [d if every or (capability, d) == (90, "bfloat16") else f"{d}:last" for d in dtypes]
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        running[capability] = subprocess.Popen(
            [sys.executable, "-W", "error", script, str(capability), *asked],
            env=environment | {"TRITON_CACHE_DIR": cache},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        results = {}
        for capability, process in running.items():
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0, err
            results[capability] = [json.loads(line) for line in out.splitlines()]
        yield results
    finally:
        for process in running.values():
            process.kill()


@pytest.mark.parametrize("capability", DTYPES)
def test_every_kernel_fits_the_gpu(
    compiled: dict[int, list[dict[str, Any]]], capability: int
) -> None:
    records = compiled[capability]
    kernels = {
        "residual_mlp._forward_kernel", "residual_mlp._backward_kernel",
        "cosine_cross_entropy._loss_kernel", "cosine_cross_entropy._grad_y_kernel",
        "cosine_cross_entropy._grad_text_kernel", "weight_grad_update._product_kernel",
        "cache_affinity._forward_kernel", "cache_affinity._grad_keys_kernel",
    }  # fmt: skip
    for dtype in DTYPES[capability]:
        assert {r["kernel"] for r in records if r["dtype"] == dtype} == kernels
    for record in records:
        # ptxas may give up a register or two to fit another block; at 255 it had no choice.
        assert record["stack"] <= (0 if record["registers"] == 255 else 16), record
        on_both = record["dtype"] == "float32"
        assert record["shared"] <= (min(SHARED.values()) if on_both else SHARED[capability]), record
        # float32 products are ieee on the plain units, never TF32 on the tensor cores.
        assert bool(record["tensor_core"]) == (record["dtype"] != "float32"), record


def test_hopper_runs_its_own_tensor_core_products(
    compiled: dict[int, list[dict[str, Any]]],
) -> None:
    """Warpgroup products need tiles of 64 rows: each kernel with a product has one that does."""
    wide = {r["kernel"] for r in compiled[90] if r["wgmma"]}
    assert {"residual_mlp._backward_kernel", "weight_grad_update._product_kernel"} <= wide
