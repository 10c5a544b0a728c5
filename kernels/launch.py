"""Where an op runs, and with which launch settings.

A kernel file takes `jit` and `tl` from here and need not care whether Triton exists: without a GPU
and without the interpreter it is not even imported (a third of a second), and `jit` leaves the
function alone.

    CUDA tensors in float32, bfloat16 or float16    the Triton kernel
    the same dtypes under TRITON_INTERPRET=1         the Triton kernel, interpreted, on any device
    everything else (CPU, float64, no Triton)        the file's hand-written torch path
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

INTERPRET = os.environ.get("TRITON_INTERPRET", "").lower() in {"1", "true", "on", "yes", "y"}
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

triton: Any = None
tl: Any = SimpleNamespace(constexpr=bool)
if INTERPRET or torch.cuda.is_available():
    try:
        triton = import_module("triton")
    except ImportError:  # no wheel for macOS and Windows
        INTERPRET = False
    else:
        tl = import_module("triton.language")


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit` where Triton is there, else the function itself, never to be called."""
    return function if triton is None else triton.jit(function)


@dataclass(frozen=True)
class Setting:
    """One way to launch a kernel: its constexpr block sizes, warps and pipeline stages."""

    blocks: dict[str, int]
    warps: int = 4
    stages: int = 2


def uses_triton(x: Tensor) -> bool:
    """Whether an op on `x` runs as a Triton kernel (compiled or interpreted)."""
    return (INTERPRET or (triton is not None and x.is_cuda)) and x.dtype in KERNEL_DTYPES


def power_of_two(n: int) -> int:
    """The smallest power of two >= n and >= 16, the least width of a tensor-core product."""
    return max(16, 1 << (n - 1).bit_length())


def tiles(n: int, block: int) -> int:
    """How many blocks cover n."""
    return -(-n // block)


def strides(names: str, x: Tensor | None) -> dict[str, int]:
    """Arguments that hold x's strides; those of axes that x lacks in front, or of None, are 0."""
    given = names.split()
    values = (0, 0, 0, *(() if x is None else x.stride()))
    return dict(zip(given, values[-len(given) :], strict=True))


def run(
    kernel: Any,
    grid: Callable[[dict[str, int]], int],
    arguments: dict[str, Any],
    settings: Sequence[Setting],
    trial: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Launch `kernel` with the fastest of `settings` for these shapes.

    Args:
        kernel: a `jit` function.
        grid: number of programs, given a setting's block sizes.
        arguments: every argument by name, block sizes excepted.
        settings: at most four; the first is what the interpreter and CUDA graph captures of
            shapes never seen before use, so run a step once before capturing it.
        trial: gives arguments that replace those of the same name while settings are timed,
            for a kernel that updates in place.
    """
    setting = settings[0]
    if not INTERPRET and len(settings) > 1:
        setting = _fastest(kernel, grid, arguments, settings, trial)
    _launch(kernel, grid, arguments, setting)


_chosen: dict[tuple[Any, ...], Setting] = {}


def _fastest(
    kernel: Any,
    grid: Callable[[dict[str, int]], int],
    arguments: dict[str, Any],
    settings: Sequence[Setting],
    trial: Callable[[], dict[str, Any]] | None,
) -> Setting:
    """Time each setting once per kernel, device, dtypes and numbers, and remember the winner."""
    device = next(a.device for a in arguments.values() if isinstance(a, Tensor))
    traits = [a.dtype if isinstance(a, Tensor) else a for a in arguments.values()]
    key = (kernel, device, *traits)
    if key not in _chosen:
        if torch.cuda.is_current_stream_capturing():
            return settings[0]
        arguments = arguments | (trial() if trial else {})
        times = {}
        for place, setting in enumerate(settings):
            try:
                times[place] = triton.testing.do_bench(
                    lambda setting=setting: _launch(kernel, grid, arguments, setting),
                    warmup=5,
                    rep=20,
                )
            except triton.runtime.errors.OutOfResources:  # a card with less shared memory
                continue
        if not times:
            name = getattr(kernel, "__name__", str(kernel))
            raise ValueError(f"{name}: no launch setting fits this GPU ({device})")
        _chosen[key] = settings[min(times, key=times.__getitem__)]
    return _chosen[key]


def _launch(
    kernel: Any,
    grid: Callable[[dict[str, int]], int],
    arguments: dict[str, Any],
    setting: Setting,
) -> None:
    programs = grid(setting.blocks)
    options = {"num_warps": setting.warps, "num_stages": setting.stages}
    with torch.cuda.device_of(next(a for a in arguments.values() if isinstance(a, Tensor))):
        kernel[(programs,)](**arguments, **setting.blocks, **options)


class Workspace:
    """Memory that the steps of one training run share, so that none of them allocates.

    Pass the same object to every step. A tensor taken under a name is handed out again by the
    next step: whoever needs a result longer clones it.
    """

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor, dtype: Any = None) -> Tensor:
        """An uninitialised tensor of this shape, with the device and dtype of `like`."""
        dtype = dtype or like.dtype
        held = self._tensors.get(name)
        if held is None or (held.shape, held.dtype, held.device) != (
            torch.Size(shape),
            dtype,
            like.device,
        ):
            held = self._tensors[name] = torch.empty(shape, dtype=dtype, device=like.device)
        return held

    def rounded(self, name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
        """X itself if it has this dtype, else rounded to it in held memory."""
        if x.dtype == dtype:
            return x
        return self.take(name, x.shape, x, dtype).copy_(x)

    def keep(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A constant of the run: what `make` gave the first time."""
        if name not in self._tensors:
            self._tensors[name] = make()
        return self._tensors[name]
