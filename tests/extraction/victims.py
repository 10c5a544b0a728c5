"""Extractions that die; run by test_extract_kill.py, not a test itself.

The parent imports open_clip once and computes nothing, so that its children can compute. For every
line it reads it forks an extraction, says its process id, and then how it ended. The extraction
dies by SIGKILL (or by the kernel, in the middle of a write) at the moment that was asked for; one
that is asked for as a command is left to whoever kills it.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import open_clip  # noqa: F401, TID253
import sklearn.datasets  # noqa: F401
import torch

from cacheclip.cli.main import main as cacheclip
from cacheclip.encoders.towers import OpenClipEncoder
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Says when something happens for the nth time."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def arm(moment: str, nth: int) -> None:
    """Die when `moment` comes for the nth time."""
    now = Countdown(nth)
    if moment == "encoding":
        encode = OpenClipEncoder.encode_images

        def encoding(encoder: OpenClipEncoder, pixels: torch.Tensor) -> Any:
            return die() if now() else encode(encoder, pixels)

        OpenClipEncoder.encode_images = encoding  # type: ignore[assignment, method-assign]
    elif moment == "syncing":
        fsync = os.fsync

        def syncing(descriptor: int) -> None:
            die() if now() else fsync(descriptor)

        os.fsync = syncing  # type: ignore[assignment]
    else:
        sys.addaudithook(lambda event, args: _hear(moment, event, args, now))


def _hear(moment: str, event: str, args: tuple[Any, ...], now: Countdown) -> None:
    """Python tells its audit hooks of every file that it opens and of every new name."""
    if moment == "publishing" and event in ("os.link", "os.rename") and now():
        die()
    new_shard = event == "open" and args[1] == "x" and "shard-" in str(args[0])
    if moment == "writing" and new_shard and now():
        # The kernel lets the first bytes through and ends the process at the rest.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


def command(words: list[str], said: str) -> None:
    """Run `cacheclip` as a shell does, what it says in a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup's goes on to us
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    sys.argv = ["cacheclip", *words]
    cacheclip()


def main() -> None:
    """Fork one extraction a line."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            if "command" in told:
                command(told["command"], told["said"])
            if told["moment"]:
                arm(told["moment"], told["nth"])
            run(ExtractRequest(**told["request"]), Home(Path(told["home"])))
            os._exit(0)
        print(child, flush=True)  # noqa: T201
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
