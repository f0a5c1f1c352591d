"""What a log row says: mean losses over the steps since the last row, and how fast they went."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Iterator

import torch
from torch import Tensor


class Meter:
    """Sums losses on the device and times between rows; reads them (one synchronisation) only when a row is due.

    The sums are part of a checkpoint, so that a row after a resume covers the steps it would have covered anyway.
    The times are not: they speak of this process.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        self.images = self.timed_steps = 0
        self.wait, self.since = 0.0, time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here counts as waiting for data."""
        begin = time.perf_counter()
        yield
        self.wait += time.perf_counter() - begin

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here (a validation, a checkpoint) does not count."""
        begin = time.perf_counter()
        yield
        self.since += time.perf_counter() - begin

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.steps += 1
        self.timed_steps += 1
        self.images += images

    def row(self, step: int, lr: float) -> dict[str, float]:
        """The row of `step`; starts the next window."""
        elapsed = time.perf_counter() - self.since
        row = {
            "step": step,
            **{f"loss/{name}": float(value) / self.steps for name, value in self.sums.items()},
            "lr": lr,
            "images_per_s": self.images / elapsed,
            "step_s": elapsed / self.timed_steps,
            "data_wait": self.wait / elapsed,
        }
        self.sums, self.steps = {}, 0
        self.restart_clock()
        return row

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.steps = state["steps"]
        self.restart_clock()
