"""Where the time of one training step goes: python benchmarks/run.py --only profile [--device cuda] [--models NAME ...]

Three tables. Parts: the step cut between its parts, forward and backward pass of each timed with the device
synchronised (so their sum is an upper bound of the step). Operators: PyTorch's profiler over whole, uncut steps of
the first model. Host calls, on CUDA only: what the host asks of the driver in one step, and how often it waits.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator

import torch
from measuring import synchronise
from network import MODELS, Training
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from ssnm.coseg.records import Modulation, SSNMOutput
from ssnm.engine.loop import autocast
from ssnm.engine.nonfinite import FiniteGuard
from ssnm.nn.grouping import fold_groups, unfold_groups

SPAN = "profiled steps"
HOST_CALLS = {
    "kernel launches": ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx",
                        "cudaGraphLaunch"),
    "copies and fills, not waited for": ("cudaMemcpyAsync", "cudaMemsetAsync"),
    "waits for the whole queue": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy"),
    "waits for the loss of the step before": ("cudaEventSynchronize",),
    "values read by the host (one: the guard's copy)": ("aten::_local_scalar_dense",),
}  # fmt: skip


class PartClock:
    """Runs a step part by part. The graph is cut between the parts, so that both passes of each are timed apart; the
    gradients are those of the whole step.

    seconds: (part, "forward" or "backward") -> seconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._done: list[tuple[str, tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]] = []

    @contextmanager
    def clock(self, part: str, direction: str) -> Iterator[None]:
        synchronise(self.device)
        begin = time.perf_counter()
        yield
        synchronise(self.device)
        self.seconds[part, direction] += time.perf_counter() - begin

    def forward(self, part: str, run: Callable[..., Iterable[Tensor]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs of `run(*inputs)`, computed from inputs that start a graph of their own."""
        leaves = tuple(t.detach().requires_grad_(t.requires_grad) for t in inputs)
        with self.clock(part, "forward"):
            outputs = tuple(run(*leaves))
        self._done.append((part, inputs, leaves, outputs))
        return outputs

    def backward(self, loss: Tensor) -> None:
        """The backward passes of all parts, last first, from the scalar `loss`."""
        gradients = {id(loss): torch.ones_like(loss)}
        for part, inputs, leaves, outputs in reversed(self._done):
            reached = [t for t in outputs if id(t) in gradients and t.requires_grad]
            if reached:
                with self.clock(part, "backward"):
                    torch.autograd.backward(reached, [gradients[id(t)] for t in reached])
            for source, leaf in zip(inputs, leaves):
                if leaf.grad is not None:
                    gradients[id(source)] = gradients.get(id(source), 0) + leaf.grad
        self._done.clear()


def gradients_by_part(training: Training, clock: PartClock) -> None:
    """Forward and backward pass of a step, the parts in the order of `SSNM.forward`; leaves the gradients."""
    model, batch = training.model, training.batch
    count, size = batch.images.shape[1], batch.images.shape[-2:]
    spatial, semantic = model.spatial, model.semantic
    with autocast(clock.device, training.options.precision):
        cfms = clock.forward("backbone", model.backbone, fold_groups(batch.images))
        (phi,) = clock.forward("fusion", lambda *c: (model.fusion(c),), *cfms)
        mask, value, energy = clock.forward("spatial", lambda p: spatial(unfold_groups(p, count)), phi)
        gamma, labels = clock.forward(
            "semantic", lambda c: semantic(unfold_groups(semantic.indicators(c), count)), cfms[-1]
        )
        (logits,) = clock.forward(
            "head", lambda s, g, *c: (model.segment(c, Modulation(s, g), size),), mask, gamma, *cfms
        )

    def loss(logits: Tensor, labels: Tensor, energy: Tensor) -> tuple[Tensor]:
        output = SSNMOutput(unfold_groups(logits, count), Modulation(mask, gamma, labels, value, energy))
        return (training.criterion(output, batch)["total"],)

    (total,) = clock.forward("loss", loss, logits, labels, energy)
    clock.backward(total)


def step_by_part(training: Training, clock: PartClock) -> None:
    """One whole training step, timed part by part; the optimiser's time counts as forward."""
    with clock.clock("optimiser", "forward"):
        training.state.optimizer.zero_grad(set_to_none=True)
    gradients_by_part(training, clock)
    with clock.clock("optimiser", "forward"):
        training.state.optimizer.step()


def parts(training: Training, repeats: int, warm_up: int) -> dict[tuple[str, str], float]:
    """Median seconds per (part, direction)."""
    device = training.batch.images.device
    clocks = [PartClock(device) for _ in range(warm_up + repeats)]
    for clock in clocks:
        step_by_part(training, clock)
    return {key: statistics.median(c.seconds[key] for c in clocks[warm_up:]) for key in clocks[-1].seconds}


def profiled(training: Training, steps: int) -> profile:
    """The profiler's record of so many steps as the loop makes them, after one for warm-up."""
    device, guard = training.batch.images.device, FiniteGuard()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    training.step(training.model, guard)
    synchronise(device)
    with profile(activities=activities) as record:
        with record_function(SPAN):
            for _ in range(steps):
                training.step(training.model, guard)
        synchronise(device)
    return record


def operator_rows(record: profile, steps: int, on_device: bool, count: int = 15) -> list[dict[str, Any]]:
    """The operators that take most time by themselves: on CUDA that of their kernels."""
    own = "self_device_time_total" if on_device else "self_cpu_time_total"
    averages = [e for e in record.key_averages() if e.device_type == DeviceType.CPU and _is_operator(e.key)]
    total = sum(getattr(e, own) for e in averages)
    rows = []
    for event in sorted(averages, key=lambda e: -getattr(e, own))[:count]:
        microseconds = getattr(event, own)
        rows.append({"operator": event.key, "calls_per_step": event.count / steps,
                     "ms_per_step": microseconds / 1e3 / steps, "share": microseconds / total})
    return rows


def _is_operator(name: str) -> bool:
    return name.startswith(("aten::", "ssnm::"))


def host_call_rows(events: Iterable[Any], steps: int) -> list[dict[str, Any]]:
    """How often the host does what, per step: profiler events inside the span of the profiled steps."""
    events = list(events)
    span = next(e.time_range for e in events if e.name == SPAN and e.device_type == DeviceType.CPU)
    inside = Counter(e.name for e in events if span.start <= e.time_range.start and e.time_range.end <= span.end)
    counts = {what: sum(inside[name] for name in names) for what, names in HOST_CALLS.items()}
    return [{"host": what, "per_step": count / steps} for what, count in counts.items()]


def measure(
    device: str = "cpu", groups: int = 1, images: int = 5, size: int = 224, models: tuple[str, ...] = tuple(MODELS),
    repeats: int = 2, warm_up: int = 1, steps: int = 2, precisions: tuple[str, ...] = ("fp32", "bf16"),
) -> dict[str, Any]:
    """`rows`: seconds of the cut step and the share of each part, per model and precision; `tables`: both passes of
    each part, operators and host calls of the first model, in the last precision."""
    where = torch.device(device)
    rows, tables = [], {}
    for backbone in models:
        for precision in precisions:
            training = Training.make(backbone, precision, where, groups, images, size)
            seconds = parts(training, repeats, warm_up)
            total = sum(seconds.values())
            names = dict.fromkeys(part for part, _ in seconds)
            shares = {n: sum(s for (part, _), s in seconds.items() if part == n) / total for n in names}
            rows.append({"model": backbone, "precision": precision, "sum_s": total, **shares})
            if backbone == models[0] and precision == precisions[-1]:
                tables[f"parts of a step: {backbone}, {precision}"] = _part_rows(seconds)
                record = profiled(training, steps)
                on_device = where.type == "cuda"
                tables[f"operators of a step: {backbone}, {precision}"] = operator_rows(record, steps, on_device)
                if on_device:
                    tables[f"host calls of a step: {backbone}, {precision}"] = host_call_rows(record.events(), steps)
    return {"name": "profile", "batch": f"{groups} x {images} x {size}", "rows": rows, "tables": tables}


def _part_rows(seconds: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    total = sum(seconds.values())
    rows = []
    for part in dict.fromkeys(part for part, _ in seconds):
        forward, backward = seconds[part, "forward"], seconds.get((part, "backward"), 0.0)
        rows.append({"part": part, "forward_ms": 1e3 * forward, "backward_ms": 1e3 * backward,
                     "share": (forward + backward) / total})
    return rows
