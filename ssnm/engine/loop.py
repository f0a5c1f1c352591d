"""The training loop: a function that knows batches, outputs, named losses and callables, and no method.

`train` pulls batches, makes steps, and calls back: `on_log` with figures, `evaluate` at its interval, `save` when
a checkpoint is due. State that a resumed run needs lives in :class:`TrainState`; batches and learning rate are
functions of the step.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .average import MovingAverage
from .distributed import Processes
from .meter import Meter
from .nonfinite import FiniteGuard, NonFiniteLoss
from .schedule import Schedule

__all__ = ["LoopOptions", "NonFiniteLoss", "TrainState", "make_ema", "make_scaler", "stop_on_signal", "train",
           "train_step"]  # fmt: skip

Losses = dict[str, Tensor]
SMALLEST_SCALE = 2.0**-10  # of the loss in float16; it starts at 2^16


@dataclass(frozen=True)
class LoopOptions:
    """steps: the absolute last step. Intervals are in steps, `checkpoint_minutes` in minutes of wall time.

    checkpoint_every: also after each multiple of so many steps; 0: by time alone.
    """

    steps: int
    log_every: int = 20
    evaluate_every: int = 0
    checkpoint_minutes: float = 5.0
    checkpoint_every: int = 0
    accumulate: int = 1
    clip_norm: float = 0.0
    precision: str = "fp32"


@dataclass
class TrainState:
    """All that changes while training; what `state_dict` gives is what a resumed run needs.

    model: the plain network, so that its keys carry no prefix; parallel: the same one inside
    DistributedDataParallel, None for one process. best, scores: of the best and of the last validation. scaler: of the
    loss in float16, see :func:`make_scaler`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    step: int = 0
    ema: MovingAverage | None = None
    best: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    parallel: DistributedDataParallel | None = None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))

    def averaged(self) -> nn.Module:
        """The model to evaluate and ship: the moving average where there is one."""
        return self.ema.module if self.ema is not None else self.model

    def state_dict(self) -> dict[str, Any]:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "ema_updates": self.ema.n_averaged if self.ema is not None else 0,
            "optimizer": self.optimizer.state_dict(),
            "best": dict(self.best),
            "scores": dict(self.scores),
            "meter": self.meter.state_dict(),
            "scaler": self.scaler.state_dict(),  # empty where it is off
            "torch_rng": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["cuda_rng"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Weights, moments, step and random numbers of `state`; learning rates and other options stay this run's."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(self._with_own_options(state["optimizer"]))
        self.step, self.best, self.scores = state["step"], dict(state["best"]), dict(state.get("scores", {}))
        if "meter" in state:
            self.meter.load_state_dict(state["meter"], next(self.model.parameters()).device)
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"] or state["model"])
            # 0 would make the next update a copy of the weights instead of an average
            self.ema.n_averaged = state.get("ema_updates") or state["step"]
        torch.set_rng_state(state["torch_rng"])
        if torch.cuda.is_available() and len(state.get("cuda_rng", ())) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])

    def _with_own_options(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Rates, betas and weight decay are this run's config, `fused` is this machine's device: only which moments
        belong to which parameters comes from the checkpoint."""
        own = self.optimizer.param_groups
        if len(own) != len(saved["param_groups"]):
            return saved  # torch says what differs
        groups = [{**o, "params": g["params"]} for g, o in zip(saved["param_groups"], own)]
        return {**saved, "param_groups": groups}


def make_ema(model: nn.Module, decay: float) -> MovingAverage | None:
    """An exponential moving average of parameters and buffers, or None for decay 0."""
    if not decay:
        return None
    return MovingAverage(model, decay)


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """For "fp16": scales the loss so that small gradients survive in float16, and leaves out a step whose gradients
    overflowed; for other precisions it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def train_step(
    forward: Callable[[Any], Any], loss_fn: Callable[[Any, Any], Losses], batches: list[Any], state: TrainState,
    options: LoopOptions, guard: FiniteGuard | None = None, processes: Processes = Processes(),
) -> Losses:
    """One optimiser step over `batches` (the micro-batches of gradient accumulation). No host synchronisation.

    Returns the named losses, detached, averaged over the micro-batches and the processes.

    Raises:
        NonFiniteLoss: what `guard` found, in every process at the same step.
    """
    if state.schedule.resets_optimizer(state.step):
        state.optimizer.state.clear()  # what a new optimiser over the same parameters starts with
    factor = state.schedule.factor(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    state.optimizer.zero_grad(set_to_none=True)
    total: Losses = {}
    for number, batch in enumerate(batches):
        with _gradients_shared(state, number == len(batches) - 1):
            with autocast(batch.images.device, options.precision):
                output = forward(batch)
            losses = loss_fn(output, batch)
            means = processes.mean_losses(losses)
            if guard is not None:
                guard.see(state.step, batch, means, losses["total"])
            state.scaler.scale(losses["total"] / len(batches)).backward()
        for name, value in means.items():
            total[name] = total.get(name, 0) + value / len(batches)
    if options.clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), options.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    state.step += 1
    return total


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass in "fp32", "bf16" or "fp16"."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def _gradients_shared(state: TrainState, last: bool):
    """Gradients are averaged over the processes once per step, with the last micro-batch."""
    return nullcontext() if last or state.parallel is None else state.parallel.no_sync()


def train(
    state: TrainState,
    batches: Iterable[Any],
    forward: Callable[[Any], Any],
    loss_fn: Callable[[Any, Any], Losses],
    options: LoopOptions,
    on_log: Callable[[dict[str, float]], None] = lambda row: None,
    evaluate: Callable[[TrainState], None] | None = None,
    save: Callable[[TrainState], None] = lambda state: None,
    processes: Processes = Processes(),
) -> bool:
    """Train from `state.step` to `options.steps`; True if the end was reached, False if a signal asked to stop.

    `batches` yields `options.accumulate` micro-batches per step, from the state's step on. With several processes
    the callbacks are called in the first one only, the others wait for `evaluate`; a signal to one stops all.

    Raises:
        NonFiniteLoss: the loss of a step is not a number; nothing is saved after it.
    """
    stream, meter, guard = iter(batches), state.meter, FiniteGuard()
    meter.restart_clock()
    saved = time.monotonic()
    with stop_on_signal(lambda: state.step >= options.steps - 1) as stop:
        while state.step < options.steps:
            with meter.waiting():
                micro = [next(stream) for _ in range(options.accumulate)]
            losses = train_step(forward, loss_fn, micro, state, options, guard, processes)
            meter.add(losses, processes.world * sum(b.num_images for b in micro))
            stopping = processes.any(bool(stop))  # read once: a later signal waits for the next step
            last = state.step == options.steps
            evaluated = _falls_on(options.evaluate_every, state.step)
            due = time.monotonic() - saved > 60 * options.checkpoint_minutes
            saving = due or evaluated or stopping or last or _falls_on(options.checkpoint_every, state.step)
            if _falls_on(options.log_every, state.step):
                guard.flush()
                _require_usable_scale(state, micro)
                row = meter.row(state.step, state.optimizer.param_groups[0]["lr"])
                if processes.is_first:
                    on_log(row)
            if evaluate is not None and (evaluated or last):
                guard.flush()
                with meter.paused():
                    _evaluate(state, evaluate, processes, micro)
            if saving and processes.is_first:
                guard.flush()
                _require_finite_weights(state, micro)
                with meter.paused():
                    save(state)
                saved = time.monotonic()
            if stopping and not last:
                return False
    return True


def _falls_on(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(state: TrainState, evaluate: Callable[[TrainState], None], processes: Processes, batch: Any) -> None:
    if processes.is_first:
        _require_finite_weights(state, batch)  # scores of such weights mean nothing, and the best are saved
        state.model.eval()
        evaluate(state)
        state.model.train()
    processes.wait()


def _require_finite_weights(state: TrainState, batch: Any) -> None:
    """A finite loss can still have a gradient that is no number: weights, statistics and averages that it spoilt must
    neither be evaluated nor replace a good checkpoint."""
    tensors = dict(_floating_tensors(state.model))
    if state.ema is not None:
        tensors |= {f"average of {name}": tensor for name, tensor in _floating_tensors(state.ema.module)}
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()  # waits for the device once
    broken = [name for name, is_finite in zip(tensors, finite) if not is_finite]
    if broken:
        losses = {f"weights that are not finite (first: {broken[0]})": float(len(broken))}
        raise NonFiniteLoss(state.step - 1, batch, losses, here=True)


def _floating_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor


def _require_usable_scale(state: TrainState, batch: Any) -> None:
    """Every step whose gradients overflow halves the scale; one that has fallen so far says that no scale helps, and
    that no step has been made for long."""
    if state.scaler.is_enabled() and (scale := state.scaler.get_scale()) < SMALLEST_SCALE:
        raise NonFiniteLoss(state.step - 1, batch, {"gradients that overflow float16 at a scale of": scale}, here=True)


@contextmanager
def stop_on_signal(at_last: Callable[[], bool] = lambda: False) -> Iterator[list[str]]:
    """A list that becomes non-empty when SIGINT or SIGTERM arrives, which is said; a second one interrupts at once.

    at_last: whether the last step is being made, which ends the run as if nothing had arrived.
    """
    caught: list[str] = []

    def handle(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)
        if os.environ.get("RANK", "0") == "0":  # a validation can take minutes: silence would look like a hang
            what = "goes on, this is the last step" if at_last() else "stops after this step or validation"
            line = f"{caught[0]}: {what}; once more stops at once, without saving\n"
            os.write(2, line.encode())  # print is not allowed in the middle of a print

    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread: signals stay as they are
        pass
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
