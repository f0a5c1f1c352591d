"""What the benchmarks share: a clock that waits for the device, peak memory, and a process of one's own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable

import torch


def synchronise(device: torch.device) -> None:
    """Wait until `device` has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], Any], device: torch.device, repeats: int, warm_up: int = 2) -> list[float]:
    """Seconds of each repeat, after warm-up, synchronised."""
    seconds = []
    for index in range(warm_up + repeats):
        synchronise(device)
        begin = time.perf_counter()
        run()
        synchronise(device)
        if index >= warm_up:
            seconds.append(time.perf_counter() - begin)
    return seconds


def peak_gib(device: torch.device) -> float:
    """Most memory that this process has held so far: on CUDA tensors on the device, on the CPU everything resident,
    Python and its libraries (about half a GiB) included; so measure in a process of one's own, see :func:`alone`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")  # on Linux ru_maxrss of a new process starts at its parent's
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def alone(measure: Callable[..., Any], *args: Any, threads: int | None = None) -> Any:
    """`measure(*args)`, a function at the top of a module, in a fresh process with as many CPU threads as this one."""
    threads = threads or torch.get_num_threads()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        return pool.submit(measure, *args).result()
