"""Where an encoder computes: the device that `--device` names, and a model put on it."""

import re
from typing import Any

from cacheclip.encoders.catalogue import first_line
from cacheclip.errors import MachineError, UsageError


def chosen(asked: str | None) -> str:
    """The device that was asked for, or the first GPU, or the CPU.

    Raises:
        UsageError: there is no such device.
        MachineError: there is no GPU.
    """
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", asked):
        raise UsageError(
            f"there is no device {asked!r}",
            where="--device",
            fix="use --device cpu, --device cuda, or --device cuda:1 for the second GPU",
        )
    if asked == "cpu":
        return asked
    if not torch.cuda.is_available():
        raise MachineError(
            "torch sees no GPU on this machine",
            where=f"--device {asked}",
            fix="use --device cpu; `cacheclip doctor` says what is missing",
        )
    number = int(asked.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise UsageError(
            f"there is no GPU {number}: torch sees {torch.cuda.device_count()}, counted from 0",
            where=f"--device {asked}",
            fix=f"use --device cuda:{torch.cuda.device_count() - 1}",
        )
    return asked


def move(model: Any, device: str, name: str) -> None:
    """Put a model on a device, or say with a MachineError why it cannot be put there."""
    try:
        model.to(device)
    except RuntimeError as error:  # out of memory is one, a GPU in a bad state another
        raise MachineError(
            f"{name} cannot be put on {device}: {first_line(error)}",
            where=f"--device {device}",
            fix="use --device cpu, or a GPU with more free memory",
        ) from error
