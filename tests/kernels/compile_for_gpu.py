"""Compiles every kernel for a GPU that need not be there.

    python compile_for_gpu.py CAPABILITY DTYPE... [--all]

Without --all the largest launch setting of each kernel stands for the others, and of a dtype that
is written DTYPE:last the last launch of each kernel, which holds the most. Run without
TRITON_INTERPRET. The ops run on CPU tensors of real shapes, but instead of launching, each kernel
is compiled for the arguments it was given, as the JIT would specialise them. One JSON line each:
kernel, dtype, setting, registers, stack bytes, shared bytes, tensor-core products.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

torch.cuda.is_available = lambda: True  # else the kernels would not import triton

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from cacheclip.kernels import (  # noqa: E402
    cache_affinity,
    cosine_cross_entropy,
    launch,
    residual_mlp,
    weight_grad_update,
)

POINTERS = {
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int64: "*i64"
}  # fmt: skip
Job = tuple[Any, dict[str, Any], launch.Setting]


def record(act: Callable[[], object], *, every: bool) -> list[Job]:
    """The launches that `act` asks for, in every setting or in the largest."""
    jobs: list[Job] = []

    def run(kernel: Any, grid: Any, arguments: Any, settings: Any, trial: Any = None) -> None:
        one = not every or shown_by_another(arguments)
        kept = [max(settings, key=size)] if one else settings
        jobs.extend((kernel, arguments, setting) for setting in kept)

    launch.run, launch.uses_triton = run, lambda x: True
    act()
    return jobs


def size(setting: launch.Setting) -> int:
    """What a setting holds at a time, in numbers."""
    return prod(setting.blocks.values()) * setting.stages


def shown_by_another(arguments: dict[str, Any]) -> bool:
    """Whether one setting is enough, since another compilation shows how all of them fit.

    The ends of the other optimizers differ from that of AdamW, which holds the most, by a few
    lines; a gradient that reads an anchor holds more.
    """
    return arguments.get("OPTIMIZER", "adamw") != "adamw" and not arguments.get("PULL")


def source(kernel: Any, arguments: dict[str, Any]) -> ASTSource:
    """Arguments as the JIT specialises them: ones are constants, multiples of 16 are known."""
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        kind = "constexpr"
        if isinstance(value, Tensor):
            kind = POINTERS[value.dtype]
        elif isinstance(value, float):
            kind = "fp32"
        elif not parameter.is_constexpr and value != 1:
            kind = "i32" if abs(value) < 2**31 else "i64"
        if kind == "constexpr":
            constants[(place,)] = value
        elif isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
        signature[parameter.name] = kind
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)


def measure(job: Job, capability: int) -> dict[str, object]:
    kernel, arguments, setting = job
    compiled = triton.compile(
        source(kernel, arguments | setting.blocks),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": setting.warps, "num_stages": setting.stages},
    )
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command: list[Any] = [tool, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(usage)
    dtype = next(a.dtype for a in arguments.values() if isinstance(a, Tensor))
    return {
        "kernel": f"{kernel.__module__.rsplit('.')[-1]}.{kernel.__name__}",
        "dtype": str(dtype).removeprefix("torch."),
        "sm": capability,
        "blocks": setting.blocks | {k: v for k, v in arguments.items() if k in ("HP", "OPTIMIZER")},
        "warps": setting.warps,
        "registers": int(found[1]),
        "stack": int(found[2]),
        "shared": compiled.metadata.shared,
        "tensor_core": len(re.findall(r"wgmma\.mma_async|mma\.sync", compiled.asm["ptx"])),
        "wgmma": len(re.findall(r"wgmma\.mma_async", compiled.asm["ptx"])),
    }


def ops(dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    """Every op with every kernel variant it has, at the shapes that matter."""
    V, N, C = 2, 1616, 101
    labels = torch.zeros(V, 256, dtype=torch.int64)
    rows = torch.zeros(V, 256, dtype=torch.int64)
    for D, H in ((512, 128), (1024, 256), (768, 512)):
        x = torch.empty(N, D, dtype=dtype)
        w1, w2 = torch.empty(V, H, D), torch.empty(V, D, H)

        def adapter(x: Tensor = x, w1: Tensor = w1, w2: Tensor = w2) -> None:
            z, saved = residual_mlp.forward(x, w1, w2, 0.2, rows)
            residual_mlp.backward(saved, z, wants_x=True)

        yield adapter
    text, y = torch.empty(C, 512, dtype=dtype), torch.empty(V, 256, 512, dtype=dtype)

    def loss() -> None:
        mean, saved = cosine_cross_entropy.forward(y, text, labels, 100.0)
        cosine_cross_entropy.backward(saved, mean, 100.0, wants_text=True)

    yield loss
    outer = weight_grad_update.Outer(torch.empty(V, 256, 128, dtype=dtype), y)
    weight, each = torch.empty(V, 128, 512), torch.empty(V, 1)
    penalised = weight_grad_update.Outer(outer.a, outer.b, each, each, torch.empty(128, 512))
    rates = weight_grad_update.Rates.of(torch.ones(V), torch.ones(V))

    def update() -> None:
        weight_grad_update.weight_grad(outer, dtype)
        optimizers: tuple[weight_grad_update.Optimizer, ...] = ("sgd", "adamw", "adam")
        for optimizer in optimizers:
            rule = weight_grad_update.Rule(optimizer)
            state = rule.state(weight)
            weight_grad_update.weight_grad_update(weight, outer, state, rule, rates)
        weight_grad_update.weight_grad_update(weight, penalised, state, rule, rates)

    yield update
    keys, offsets = torch.empty(V, N, 512, dtype=dtype), torch.arange(0, N + 1, 16)

    def affinity() -> None:
        for count in (1, 8):
            trained = keys.clone().requires_grad_()
            x = torch.empty(N, 512, dtype=dtype)
            out = cache_affinity.cache_affinity(x, trained, offsets, torch.ones(count), rows)
            torch.autograd.grad(out.sum(), trained)

    yield affinity


def jobs_of(name: str, *, every: bool) -> list[Job]:
    """What is compiled of a dtype, `DTYPE` or `DTYPE:last`."""
    dtype, _, which = name.partition(":")
    jobs = [job for op in ops(getattr(torch, dtype)) for job in record(op, every=every)]
    return list({job[0]: job for job in jobs}.values()) if which == "last" else jobs


def main() -> None:
    capability, *names = (name for name in sys.argv[1:] if name != "--all")
    seen: set[tuple[str, int, int]] = set()
    for name in names:
        for job in jobs_of(name, every="--all" in sys.argv):
            key = (source(job[0], job[1] | job[2].blocks).hash(), job[2].warps, job[2].stages)
            if key not in seen:
                seen.add(key)
                sys.stdout.write(json.dumps(measure(job, int(capability))) + "\n")


if __name__ == "__main__":
    main()
