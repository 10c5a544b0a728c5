"""What this machine has for the work, and what to do about what it lacks."""

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.store.home import Home

LOW_SPACE = 2 * 2**30  # bytes


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was seen, and what to do if it is not."""

    name: str
    ok: bool
    seen: str
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return asdict(self)


def examine(home: Home) -> Iterator[Finding]:
    """Look at everything, the cheap things first."""
    yield Finding("python", True, f"{platform.python_version()} on {platform.system()}")
    yield _torch()
    yield _cuda()
    yield _package("triton", "kernels run on the CPU path; pip install triton (Linux only)")
    yield _package("open_clip_torch", "pip install open_clip_torch")
    yield _package("h5py", "pip install h5py")
    yield from _home(home)


def _package(name: str, advice: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", advice)


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", False, str(error), "pip install torch")
    return Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")


def _cuda() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("cuda", False, "torch does not load", "see torch above")
    if not torch.cuda.is_available():
        advice = "all commands run on the CPU; extract is far faster with an NVIDIA GPU"
        return Finding("cuda", False, "no GPU seen", advice)
    free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    return Finding("cuda", True, f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")


def _home(home: Home) -> Iterator[Finding]:
    try:
        sets = home.feature_sets()
        advice = "" if sets else f"cacheclip extract --dataset clipart{home.option}"
        yield Finding("home", bool(sets), f"{home.root}, feature sets: {len(sets)}", advice)
    except StoreError as error:
        yield Finding("home", False, f"{home.root}: {error.what} ({error.where})", error.fix)
    free = shutil.disk_usage(_existing(home.root)).free
    advice = "" if free > LOW_SPACE else "choose another disk with --home or $CACHECLIP_HOME"
    yield Finding("disk", free > LOW_SPACE, f"{free / 2**30:.0f} GiB free", advice)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)
