"""Reading many files at once: how many cores there are, and a function over many things in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A, B = TypeVar("A"), TypeVar("B")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[A], B], things: Iterable[A], threads: int | None = None) -> Iterator[B]:
    """``map(function, things)``, in order, by `threads` (None: one per usable core) at a time; one thread is this one.

    No more than two results per thread wait to be taken, so that a slow taker bounds the memory. Threads are enough for
    images: Pillow's decoding and resizing and most of numpy's work release the GIL.
    """
    threads = threads or usable_cores()
    if threads == 1:
        yield from map(function, things)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for thing in things:
                waiting.append(pool.submit(function, thing))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
