"""Several processes that train one model: who they are, what they tell each other, how they start and end.

Started by `torchrun`, one process per device. Gradients travel through DistributedDataParallel; losses are averaged
by one small all-reduce per forward pass; decisions (stop, wait) travel between the hosts over gloo, so that they never
synchronise with a device. Rank 0 validates and writes; the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError

T = TypeVar("T")
STEP_TIMEOUT = timedelta(minutes=10)  # of one collective in a step
WAIT_TIMEOUT = timedelta(hours=12)  # of a validation that the others wait for


@dataclass(frozen=True)
class Processes:
    """The processes of a run as one of them sees them; the defaults are a run of one process.

    rank: 0 writes and validates; world: how many; control: gloo group for decisions, None for one process.
    """

    rank: int = 0
    world: int = 1
    control: Any = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes of a detached tensor, on its device; itself for one process."""
        if self.world == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def mean_losses(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named scalars, detached and averaged over the processes with one all-reduce."""
        if self.world == 1:
            return {name: value.detach() for name, value in losses.items()}
        means = self.mean(torch.stack([value.detach().float() for value in losses.values()]))
        return dict(zip(losses, means.unbind()))

    def any(self, flag: bool) -> bool:
        """True in every process if `flag` is true in one; no device takes part."""
        if self.world == 1:
            return flag
        shared = torch.tensor([int(flag)])
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.control)
        return bool(shared.item())

    def gather(self, things: tuple) -> tuple:
        """What all processes have, in the order of their ranks; no device takes part."""
        if self.world == 1 or not self.any(bool(things)):
            return things
        shares: list[Any] = [()] * self.world
        dist.all_gather_object(shares, things, group=self.control)
        return tuple(thing for share in shares for thing in share)

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, or raises there, in all of them: what the disk of one machine holds
        is decided once for all. No device takes part."""
        if self.world == 1:
            return make()
        made: list[Any] = [None, None]
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        dist.broadcast_object_list(made, src=0, group=self.control)
        if made[1] is not None:
            raise made[1]
        return made[0]

    def wait(self) -> None:
        """Until all processes are here, for up to `WAIT_TIMEOUT`."""
        if self.world > 1:
            dist.monitored_barrier(self.control, timeout=WAIT_TIMEOUT)


def join(device: str | None = None) -> tuple[Processes, str | None]:
    """Join the group that torchrun's environment describes; (processes, this process's device name).

    Without torchrun, or with one process, there is no group and `device` comes back as it is.

    Raises:
        ConfigError: a single device is named for several processes, or there are fewer devices than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(), device
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"--device with {world} processes must be cpu or cuda, each takes its own; got {kind}")
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine has no device: torch sees {torch.cuda.device_count()}; lower "
                "--nproc_per_node or use --device cpu"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=STEP_TIMEOUT)
    control = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
    return Processes(rank, world, control), f"cuda:{local}" if kind == "cuda" else kind


def leave(processes: Processes) -> None:
    """Leave the group at the regular end. A process that fails just exits: its peers then fail, and do not hang."""
    if processes.world > 1:
        dist.destroy_process_group()


def wrap(model: nn.Module, processes: Processes, untrained: list[str]) -> DistributedDataParallel | None:
    """`model` inside DistributedDataParallel, or None for one process.

    untrained: parameters that the loss gives no gradient (the fusion layers where l_spa is off). DDP would wait for
    their gradient for ever, so they are frozen; an optimiser that already holds them skips them, as in one process.
    """
    if processes.world == 1:
        return None
    parameters = dict(model.named_parameters())
    for name in untrained:
        parameters[name].requires_grad_(False)
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
