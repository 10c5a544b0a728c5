"""Checkpoint files: reading their tensors, and a digest that depends on nothing but these."""

import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from cacheclip.encoders.catalogue import first_line
from cacheclip.errors import InputError

# What torch.load and safetensors raise on files that are no checkpoints; neither promises a list.
UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    StopIteration,
)


def read_tensors(path: Path, reader: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Read a checkpoint of `path` with `reader`.

    Raises:
        InputError: the file holds no tensors that can be read.
    """
    try:
        tensors = reader()
        named = all(isinstance(tensor, Tensor) for tensor in tensors.values())
    except pickle.UnpicklingError as error:  # torch would go on to say how to run it all the same
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"a pickle that asks for {asked[1]}" if asked else "no table of tensors alone"
        raise _unreadable(path, f"it is {why}") from error
    except UNREADABLE as error:
        raise _unreadable(path, first_line(error)) from error
    if not named or not tensors:
        raise _unreadable(path, "it is no table of named tensors")
    return tensors


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of each tensor, in name order.

    The same weights give the same digest, whether they lie in a .pt or a .safetensors file.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"the file holds no weights that can be read: {why}",
        where=str(path),
        fix="name a state dict saved with torch.save, or a safetensors file",
    )
