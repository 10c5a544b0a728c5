"""Work in threads with answers in order: decoding ahead of the encoder, batches side by side."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST_BATCHES = 16  # side by side; each holds its pixels and activations


def in_order(
    work: Callable[[Item], Answer], items: Iterable[Item], *, threads: int, ahead: int
) -> Generator[Answer, None, None]:
    """Give `work(item)` of each item in order, while at most `ahead` items more are worked on."""
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def batches_at_once(device: str) -> Iterator[int]:
    """Say how many batches to encode side by side.

    On a CPU that is one a core, and meanwhile torch computes each on one thread: threads that share
    a batch wait for one another at every layer, and where the cores have other work too, that made
    a small encoder five times slower (measured). It also makes features independent of the number
    of cores. A GPU takes one batch at a time, while the next is put together.
    """
    import torch

    before = torch.get_num_threads()
    if not device.startswith("cpu"):
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield min(before, MOST_BATCHES)
    finally:
        torch.set_num_threads(before)
