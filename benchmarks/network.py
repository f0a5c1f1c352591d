"""Forward, training step and their floor: python benchmarks/run.py --only network [--device cuda] [--models NAME ...]

Two floors of a training step: its convolutions and products at the machine's own measured rate of one large product,
and its layers' values at the machine's own measured rate of a copy. The larger one bounds an unfused program; a
compiled one fuses layers and may go below the second. Every row is measured in a process of its own. Weights are
random, batches too: neither changes the time.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import product
from typing import Any, Callable

import torch
from measuring import alone, peak_gib, synchronise, timed
from torch.utils.flop_counter import FlopCounterMode

from ssnm.coseg.losses import CosegCriterion
from ssnm.coseg.model import SSNM, SpatialModulator
from ssnm.coseg.records import GroupBatch
from ssnm.engine.loop import LoopOptions, TrainState, make_scaler, train_step
from ssnm.engine.nonfinite import FiniteGuard
from ssnm.engine.runtime import set_determinism
from ssnm.engine.schedule import Schedule
from ssnm.nn.backbones import Backbone, count_parameters

MODELS = {"mobilenetv2_100": 128, "hrnet_w32": 512, "vgg16": 512}  # backbone -> D
LABELS = 78
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(backbone: str) -> SSNM:
    return SSNM(Backbone(backbone), LABELS, MODELS[backbone], SpatialModulator(), semantic={})


def random_batch(groups: int, images: int, size: int, device: torch.device) -> GroupBatch:
    generator = torch.Generator().manual_seed(0)
    shape = (groups, images, size, size)
    return GroupBatch(
        images=torch.rand(groups, images, 3, size, size, generator=generator),
        masks=(torch.rand(shape, generator=generator) > 0.7).float(),
        labels=torch.zeros(groups, LABELS),
        valid=torch.ones(shape, dtype=torch.bool),
        grey=torch.zeros(groups, images, dtype=torch.bool),
    ).to(device)


@dataclass(frozen=True)
class Training:
    """A network, a batch on its device and all that a step needs, with the options of configs for that device."""

    model: SSNM
    batch: GroupBatch
    state: TrainState
    options: LoopOptions
    criterion: CosegCriterion

    @classmethod
    def make(cls, backbone: str, precision: str, device: torch.device, groups: int, images: int, size: int):
        set_determinism(False)  # as in a run: cuDNN may choose its kernels
        torch.manual_seed(0)
        model = build(backbone).to(device, memory_format=torch.channels_last).train()
        weights = [{"params": list(model.parameters()), "base_lr": 1e-4, "lr": 1e-4}]
        optimizer = torch.optim.Adam(weights, fused=device.type == "cuda")
        state = TrainState(model, optimizer, Schedule("constant", 1_000_000), scaler=make_scaler(precision, device))
        options = LoopOptions(steps=1_000_000, precision=precision)
        criterion = CosegCriterion(spa_reduction="mean")
        return cls(model, random_batch(groups, images, size, device), state, options, criterion)

    def step(self, network: torch.nn.Module, guard: FiniteGuard | None = None) -> None:
        """One training step; network: the model, or the model compiled."""
        train_step(lambda b: network(b.images), self.criterion, [self.batch], self.state, self.options, guard)


def cost_per_image(backbone: str, size: int) -> tuple[float, float]:
    """(floating-point operations, values moved) of one image's forward pass.

    Operations: convolutions and matrix products. Values: inputs and outputs of every layer, each layer by itself, as
    an unfused program moves them. A training step costs about three times both: the backward pass computes the
    gradient of the input and of the weights.
    """
    model, batch = build(backbone).eval(), random_batch(1, 1, size, torch.device("cpu"))
    moved = 0

    def count(module: torch.nn.Module, inputs: tuple, output: Any) -> None:
        nonlocal moved
        moved += sum(t.numel() for t in (*inputs, output) if isinstance(t, torch.Tensor))

    hooks = [m.register_forward_hook(count) for m in model.modules() if not list(m.children())]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(batch.images)
    for hook in hooks:
        hook.remove()
    return float(counter.get_total_flops()), float(moved)


def copy_rate(device: torch.device) -> float:
    """Measured bytes/s of a large copy, counting reading and writing."""
    source = torch.empty((1 << 30 if device.type == "cuda" else 1 << 27), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(timed(lambda: target.copy_(source), device, 5))


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measured FLOP/s of one large square matrix product; float32 in TF32 where convolutions are (CUDA)."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        return 2 * side**3 / statistics.median(timed(lambda: a @ b, device, 5))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def measure(
    device: str = "cpu",
    size: int = 224,
    groups: int = 4,
    images: int = 5,
    repeats: int = 3,
    models: tuple[str, ...] = tuple(MODELS),
    compiled: tuple[bool, ...] = (False,),
    precisions: tuple[str, ...] = ("fp32", "bf16"),
) -> dict[str, Any]:
    """Rows per model, precision and mode (eager or compiled): seconds of a step (median, spread; the first one, which
    compiles) and of a forward pass, images/s, share of the spatial modulator, peak memory, the two floors and the
    ratio of the step to the larger one."""
    where = torch.device(device)
    rows = []
    bandwidth = copy_rate(where)
    rates = {precision: product_rate(where, PRECISIONS[precision]) for precision in precisions}
    for backbone in models:
        operations, values = (3 * groups * images * cost for cost in cost_per_image(backbone, size))
        for precision, mode in product(precisions, compiled):
            dtype = PRECISIONS[precision]
            row = alone(measure_model, backbone, precision, mode, device, size, groups, images, repeats)
            compute_floor = operations / rates[precision]
            memory_floor = values * dtype.itemsize / bandwidth
            floors = {"step_gflop": operations / 1e9, "step_gb": values * dtype.itemsize / 1e9,
                      "compute_floor_s": compute_floor, "memory_floor_s": memory_floor}
            ratio = row["step_s"] / max(compute_floor, memory_floor)
            names = {"model": backbone, "precision": precision, "mode": "compiled" if mode else "eager"}
            rows.append({**names, **row, **floors, "step_over_floor": ratio})
    return {"name": "network", "batch": f"{groups} x {images} x {size}", "rows": rows}


def measure_model(
    backbone: str, precision: str, compiled: bool, device: str, size: int, groups: int, images: int, repeats: int
) -> dict[str, float | None]:
    """What a row of :func:`measure` says of one model, without the floors. Compiled: no separate forward pass."""
    where, guard = torch.device(device), FiniteGuard()
    training = Training.make(backbone, precision, where, groups, images, size)
    model = training.model
    network = torch.compile(model) if compiled else model
    begin = time.perf_counter()
    training.step(network, guard)
    synchronise(where)
    first = time.perf_counter() - begin
    step = timed(lambda: training.step(network, guard), where, repeats, warm_up=5 if where.type == "cuda" else 0)
    peak = peak_gib(where)
    ahead = None if compiled else statistics.median(timed(_forward(training, precision), where, repeats, warm_up=1))
    phi = torch.randn(groups, images, MODELS[backbone], -(-size // 32), -(-size // 32), device=where)
    spatial = timed(lambda: model.spatial(phi), where, repeats)
    median = statistics.median(step)
    return {
        "parameters_m": count_parameters(model) / 1e6,
        "forward_s": ahead,
        "forward_images_per_s": None if ahead is None else groups * images / ahead,
        "first_step_s": first,
        "step_s": median,
        "step_spread_s": max(step) - min(step),
        "images_per_s": groups * images / median,
        "spatial_share": statistics.median(spatial) / median,
        "peak_gib": peak,
    }


def _forward(training: Training, precision: str) -> Callable[[], None]:
    """The forward pass of a test, in the precision of the training."""
    model, images = training.model.eval(), training.batch.images

    def run() -> None:
        with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            model(images)

    return run
