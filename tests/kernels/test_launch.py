import subprocess
import sys

import torch

from cacheclip.kernels import launch
from cacheclip.kernels.launch import Workspace

WITHOUT = """
import sys
if sys.argv[1] == "missing":
    sys.modules["triton"] = None
import torch
from cacheclip.kernels import cache_affinity, cosine_cross_entropy, residual_mlp
assert sys.argv[1] == "missing" or "triton" not in sys.modules
ones = torch.ones(1, 3, 4)
print(tuple(residual_mlp.residual_mlp(torch.ones(2, 4), ones, ones.mT, 0.5).shape))
"""


def run_without(interpret: str, triton: str) -> str:
    command = [sys.executable, "-c", WITHOUT, triton]
    environment = {"TRITON_INTERPRET": interpret, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_machine_without_a_gpu_does_not_import_triton() -> None:
    assert run_without("0", "there") == "(1, 2, 4)"


def test_ops_run_where_triton_does_not_exist() -> None:
    assert run_without("1", "missing") == "(1, 2, 4)"


def test_float64_never_goes_to_a_kernel(device: str) -> None:
    assert not launch.uses_triton(torch.ones(1, dtype=torch.float64, device=device))


def test_a_workspace_hands_the_same_memory_out_until_the_shape_changes() -> None:
    work, like = Workspace(), torch.zeros(1)
    first = work.take("a", (2, 3), like)
    assert work.take("a", (2, 3), like) is first
    assert work.take("b", (2, 3), like) is not first
    assert work.take("a", (2, 4), like).shape == (2, 4)
    assert work.take("a", (2, 4), like, torch.float64).dtype == torch.float64
