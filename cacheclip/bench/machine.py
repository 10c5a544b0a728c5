"""What a record says of the machine, and the rates that it reaches in the same run."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from cacheclip.version import __version__

PACKAGES = ("torch", "triton", "numpy", "h5py", "scikit-learn")
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16", "asimd", "sve")
REPEATS = 5
COPIED = 2**28  # bytes, more than caches hold
WIDTH = {"cpu": 2048, "cuda": 8192}  # of the square matrices


@dataclass(frozen=True)
class Rates:
    """What this machine reaches: the best of a few repeats.

    Attributes:
        copy: bytes a second, read and written ones together.
        matmul: dtype -> flop a second of a large square product.
    """

    copy: float
    matmul: dict[str, float]

    def as_json(self) -> dict[str, float]:
        """The rates as a record holds them."""
        own = {f"matmul_{name}_gflops": rate / 1e9 for name, rate in self.matmul.items()}
        return {"copy_gb_s": self.copy / 1e9, **own}


def measure_rates(device: torch.device) -> Rates:
    """Time a copy and square products; bf16 only where the hardware multiplies it."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copy = 2 * COPIED / _best(lambda: target.copy_(source), device)
    n = WIDTH[device.type]
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_bf16(device) else {})
    matmul = {}
    for name, dtype in dtypes.items():
        a, b, out = (torch.rand(n, n, device=device).to(dtype) for _ in range(3))
        matmul[name] = 2 * n**3 / _best(partial(torch.mm, a, b, out=out), device)
    return Rates(copy, matmul)


def _best(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(REPEATS + 1):
        start = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(perf_counter() - start)
    return min(times[1:])


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"avx512_bf16", "amx_bf16"} & set(_cpu()[1]))


def describe(device: torch.device, command: str) -> dict[str, Any]:
    """Device, CPU, threads, versions, commit, date and the command that was given."""
    model, flags = _cpu()
    return {
        "device": device_name(device),
        "driver": _driver() if device.type == "cuda" else None,
        "cpu": model,
        "cpu_features": [name for name in FEATURES if name in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "cacheclip": __version__,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()[0]


def _cpu() -> tuple[str, list[str]]:
    """Model name and feature flags."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {name.strip().lower(): value.strip() for name, value in fields.items()}
    flags = named.get("flags", named.get("features", "")).split()
    return named.get("model name", platform.processor() or platform.machine()), flags


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that runs, with "-dirty" after changes; None outside of one."""
    root = Path(__file__).parents[2]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return _first_line(command, root) if (root / ".git").exists() else None


def _driver() -> str | None:
    return _first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])


def _first_line(command: list[str], folder: Path | None = None) -> str | None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return next(iter(done.stdout.splitlines()), None)
