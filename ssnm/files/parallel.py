"""Reading many files at once: how many cores there are, and a function over many things in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A, B = TypeVar("A"), TypeVar("B")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[A], B], things: Iterable[A], threads: int | None = None) -> Iterator[B]:
    """``map(function, things)``, in order, by `threads` (None: one per usable core) at a time.

    Threads are enough for images: Pillow's decoding and resizing and most of numpy's work release the GIL.
    """
    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        yield from pool.map(function, things)
