"""A loss that is not a number: found at its step, and written down so that it can be looked at.

On the CPU the loss is read before the backward pass: the weights are still those that gave it. On an accelerator it is
copied to the host asynchronously and read while the next step already runs, so that no step waits for the host; the
weights are then spoilt, and only the batch and the last checkpoint are left to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..coseg.records import GroupBatch
from ..errors import CheckpointError, MissingFileError

DUMP_FORMAT = "ssnm-nonfinite-1"


class NonFiniteLoss(ArithmeticError):
    """The loss of a step is not a number. Lets the caller write down what led to it.

    step: 0-based; batch: the micro-batches in question; losses: their named losses, averaged over the processes;
    here: this process's own loss is at fault, not that of another one; before_update: the model still has the weights
    that gave the loss.
    """

    def __init__(self, step: int, batch: Any, losses: dict[str, float], here: bool, before_update: bool) -> None:
        super().__init__(f"the loss of step {step} is not finite: {losses}")
        self.step, self.batch, self.losses = step, batch, losses
        self.here, self.before_update = here, before_update


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
        """Look at a forward pass (CPU), or at the one before it (accelerator).

        Raises:
            NonFiniteLoss: one of its losses is not finite.
        """
        values = torch.stack([v.detach().float() for v in (*losses.values(), own_total)])
        seen = _Seen(step, batch, tuple(losses), values)
        if values.device.type != "cuda":
            self._judge(seen, before_update=True)
            return
        seen.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        seen.values.copy_(values, non_blocking=True)
        seen.event = torch.cuda.Event()
        seen.event.record()
        self.flush()
        self._pending = seen

    def flush(self) -> None:
        """Look at what is still on its way; asked before anything is logged, evaluated or saved."""
        seen, self._pending = self._pending, None
        if seen is not None:
            seen.event.synchronize()
            self._judge(seen, before_update=False)

    @staticmethod
    def _judge(seen: _Seen, before_update: bool) -> None:
        if not seen.values.isfinite().all():
            losses = dict(zip(seen.names, seen.values.tolist()))
            here = not seen.values[-1].isfinite().item()
            raise NonFiniteLoss(seen.step, [seen.batch], losses, here, before_update)


@dataclass(frozen=True)
class Dump:
    """What a dump file says. weights: None where they were already spoilt; checkpoint: where to go on from."""

    step: int
    losses: dict[str, float]
    batch: GroupBatch
    weights: dict[str, Tensor] | None
    config: dict
    labels: tuple[str, ...]
    checkpoint: str


def write_dump(path: Path, error: NonFiniteLoss, weights: dict[str, Tensor], config: dict, labels: tuple[str, ...],
               checkpoint: Path) -> None:
    """Write batch, losses and, if they are still those that gave the loss, weights; read by `read_dump`."""
    batch = error.batch[0]
    content = {
        "format": DUMP_FORMAT,
        "step": error.step,
        "losses": dict(error.losses),
        "batch": {f.name: v for f in fields(batch) if isinstance(v := getattr(batch, f.name), Tensor)},
        "names": [list(group) for group in batch.names],
        "weights": weights if error.before_update else None,
        "config": config,
        "labels": list(labels),
        "checkpoint": str(checkpoint),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def read_dump(path: Path) -> Dump:
    """Read a dump onto the CPU.

    Raises:
        MissingFileError, CheckpointError: no such file; another or a damaged one.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such dump")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and foreign files raise many types
        raise CheckpointError(f"{path} cannot be read as a dump ({str(error).splitlines()[0][:120]})") from error
    if not isinstance(content, dict) or content.get("format") != DUMP_FORMAT:
        raise CheckpointError(f"{path} is not a dump of a non-finite loss; wanted RUN/nonfinite/step_*.pt")
    names = tuple(tuple(group) for group in content["names"])
    return Dump(
        content["step"], content["losses"], GroupBatch(**content["batch"], names=names), content["weights"],
        content["config"], tuple(content["labels"]), content["checkpoint"],
    )
