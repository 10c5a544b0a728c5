"""A machine whose n-th call of a kind fails, and a small encoder that loads nothing."""

import _pyio  # type: ignore[import-not-found]
import builtins
import fcntl
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

KINDS = ("open", "read", "write", "short", "fsync", "link", "rename", "flock", "mkdir", "stat")
READ_FROM_HDF5 = (
    "Unable to synchronously open file (file read failed: time = Sat Nov 28 05:29:57 2026, "
    "filename = '{}', file descriptor = 3, errno = {}, error message = '{}')"
)


class Machine:
    """Counts the calls that concern files below a folder, and fails one of them.

    Python's files go through its own slow version of them, which calls `os` for all it does; HDF5
    and safetensors open theirs themselves, so their doors count as opening and reading.

    Attributes:
        root: the folder.
        struck: the path of the call that failed, "" before it came.
        ways: kind -> how each call of it was come to, as lines of the program; see `note`.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.struck = ""
        self.ways: dict[str, list[tuple[str, ...]]] = {}
        self._notes = False
        self._kind, self._left, self._errno = "", 0, 0
        self._then = 0  # what the call after a short write fails with
        self._files: dict[int, str] = {}

    def arm(self, kind: str, nth: int, number: int) -> None:
        """Fail the n-th call of a kind; a short write is followed by one that fails."""
        self._kind, self._left, self._errno = kind, nth, number
        self._then, self.struck = 0, ""

    def disarm(self) -> None:
        """Let everything go well."""
        self._kind, self._then, self._notes = "", 0, False

    def note(self) -> None:
        """Let everything go well, and keep how each call is come to."""
        self.disarm()
        self._notes, self.ways = True, {}

    def count(self, kind: str, path: object) -> None:
        """One call; the n-th is an error."""
        if self._comes(kind, path):
            raise OSError(self._errno, os.strerror(self._errno), str(path))

    def mine(self, path: object) -> bool:
        if isinstance(path, int):
            return path in self._files
        return str(path).startswith(self.root)

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between Python and the system."""
        for name, kind in (("mkdir", "mkdir"), ("stat", "stat"), ("lstat", "stat")):
            patch.setattr(os, name, self._counted(getattr(os, name), kind))
        for name, kind in (("fstat", "stat"), ("listdir", "open"), ("scandir", "open")):
            patch.setattr(os, name, self._counted(getattr(os, name), kind))
        for name, kind in (("read", "read"), ("pread", "read")):
            patch.setattr(os, name, self._counted(getattr(os, name), kind))
        for name, kind in (("rename", "rename"), ("replace", "rename"), ("link", "link")):
            patch.setattr(os, name, self._counted(getattr(os, name), kind))
        # Waiting for the disk would take most of the time, and the system does not crash here.
        patch.setattr(os, "fsync", self._counted(lambda descriptor: None, "fsync"))
        patch.setattr(fcntl, "flock", self._counted(fcntl.flock, "flock"))
        patch.setattr(os, "pwrite", self._counted(os.pwrite, "write"))
        patch.setattr(os, "write", self._write(os.write))
        self._patch_open(patch)
        patch.setattr(h5py, "File", self._hdf5(h5py.File))

    def _patch_open(self, patch: pytest.MonkeyPatch) -> None:
        real_open, real_close, quick = os.open, os.close, builtins.open

        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if self.mine(path):
                self.count("open", path)
            descriptor = real_open(path, flags, *args, **kwargs)
            if self.mine(path):
                self._files[descriptor] = str(path)
            return descriptor

        def closed(descriptor: int) -> None:
            self._files.pop(descriptor, None)
            real_close(descriptor)

        def slow(file: Any, *args: Any, **kwargs: Any) -> Any:
            return (_pyio.open if self.mine(file) else quick)(file, *args, **kwargs)

        patch.setattr(os, "open", opened)
        patch.setattr(os, "close", closed)
        patch.setattr(builtins, "open", slow)
        patch.setattr(io, "open", slow)

    def _counted(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def called(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if self.mine(path):
                self.count(kind, self._files.get(path, path))
            return real(path, *args, **kwargs)

        return called

    def _write(self, real: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def written(descriptor: int, data: Any) -> int:
            if not self.mine(descriptor):
                return real(descriptor, data)
            if self._then:
                number, self._then = self._then, 0
                raise OSError(number, os.strerror(number))
            if self._comes("short", self._files[descriptor]) and len(data) > 1:
                self._then = self._errno
                return real(descriptor, bytes(data)[: len(data) // 2])
            self.count("write", self._files[descriptor])
            return real(descriptor, data)

        return written

    def _hdf5(self, real: Any) -> Callable[..., Any]:
        def opened(file: Any, *args: Any, **kwargs: Any) -> Any:
            if self.mine(file):
                self.count("open", file)
                if self._comes("read", file):
                    number = self._errno
                    raise KeyError(READ_FROM_HDF5.format(file, number, os.strerror(number)))
            return real(file, *args, **kwargs)

        return opened

    def _comes(self, kind: str, path: object) -> bool:
        if self._notes:
            self.ways.setdefault(kind, []).append(lines_above())
        if kind != self._kind:
            return False
        self._left -= 1
        if self._left == 0:
            self.struck = str(path)
        return self._left == 0


def lines_above() -> tuple[str, ...]:
    """The lines of the program that are being run, the innermost first."""
    lines, frame = [], sys._getframe(1)
    while frame.f_back:
        frame = frame.f_back
        if "/cacheclip/" in frame.f_code.co_filename:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
    return tuple(lines)


class Sums:
    """An encoder whose features are sums of pixels and letters, a row at a time."""

    identity = {
        "library": "open_clip",
        "name": "sums",
        "pretrained": "v1",
        "weights_sha256": "0" * 64,
        "quickgelu": False,
        "embed_dim": 8,
        "logit_scale": 20.0,
        "logit_bias": None,
    }
    preprocess = {"size": [4, 4]}
    compute = {"dtype": "float32"}
    layers = ("image",)
    parts = {"text-projection": np.eye(8, dtype=np.float32)}
    weights_file = Path(__file__)
    device = "cpu"

    def transform(self, picture: Any) -> Any:
        import torch

        levels = np.array(picture.resize((4, 4)), np.float32) / 255
        return torch.from_numpy(levels).permute(2, 0, 1)

    def encode_images(self, pixels: Any) -> dict[str, NDArray[np.float32]]:
        rows = [np.resize(one.ravel(), (8, 6)).sum(1) + np.arange(8) / 8 for one in pixels.numpy()]
        return {"image": np.stack(rows).astype(np.float32)}

    def encode_texts(self, texts: Any) -> tuple[NDArray[np.float32], int]:
        letters = [np.frombuffer(text.encode().ljust(64), np.uint8)[:64] for text in texts]
        rows = [one.reshape(8, 8).sum(1) / 255 for one in letters]
        return np.stack(rows).astype(np.float32), 0
