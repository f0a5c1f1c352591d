"""A loss that is not a number: found at its step, so that no checkpoint after it replaces a good one.

The loss is read before the backward pass: the weights are still those that gave it. On CUDA devices it is copied to the
host asynchronously and read while the next step already runs, so that no step waits for the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class NonFiniteLoss(ArithmeticError):
    """The loss of a step is not a number. Lets the caller write down what led to it.

    step: 0-based; batch: the micro-batches in question; losses: their named losses, averaged over the processes;
    here: this process's own loss is at fault, not that of another one.
    """

    def __init__(self, step: int, batch: Any, losses: dict[str, float], here: bool) -> None:
        super().__init__(f"the loss of step {step} is not finite: {losses}")
        self.step, self.batch, self.losses = step, batch, losses
        self.here = here


@dataclass
class _Seen:
    step: int
    batch: Any
    names: tuple[str, ...]
    values: Tensor  # the losses averaged over the processes, then this process's own total
    event: Any = None


class FiniteGuard:
    """Looks at the loss of every forward pass; see the module docstring for when."""

    def __init__(self) -> None:
        self._pending: _Seen | None = None

    def see(self, step: int, batch: Any, losses: dict[str, Tensor], own_total: Tensor) -> None:
        """Look at a forward pass, on CUDA devices at the one before it.

        Raises:
            NonFiniteLoss: one of its losses is not finite.
        """
        values = torch.stack([v.detach().float() for v in (*losses.values(), own_total)])
        seen = _Seen(step, batch, tuple(losses), values)
        if values.device.type != "cuda":
            self._judge(seen)
            return
        seen.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        seen.values.copy_(values, non_blocking=True)
        seen.event = torch.cuda.Event()
        seen.event.record(torch.cuda.current_stream(values.device))  # not of the current device, which may be another
        self.flush()
        self._pending = seen

    def flush(self) -> None:
        """Look at what is still on its way; asked before anything is logged, evaluated or saved."""
        seen, self._pending = self._pending, None
        if seen is not None:
            seen.event.synchronize()
            self._judge(seen)

    @staticmethod
    def _judge(seen: _Seen) -> None:
        if not seen.values.isfinite().all():
            losses = dict(zip(seen.names, seen.values.tolist()))
            here = not seen.values[-1].isfinite().item()
            raise NonFiniteLoss(seen.step, [seen.batch], losses, here)
