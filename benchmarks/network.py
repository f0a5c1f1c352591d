"""Forward, training step and their floor: python benchmarks/run.py --only network [--device cuda]

Two floors of a training step: its convolutions and products at the machine's own measured rate of one large product,
and its layers' values at the machine's own measured rate of a copy. The larger one bounds an unfused program.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from ssnm.contracts import GroupBatch
from ssnm.engine.loop import LoopOptions, TrainState, train_step
from ssnm.engine.schedule import Schedule
from ssnm.losses.coseg import CosegCriterion
from ssnm.models.backbones import Backbone, count_parameters
from ssnm.models.ssnm import SSNM, SpatialModulator

MODELS = {"mobilenetv2_100": 128, "hrnet_w32": 512, "vgg16": 512}  # backbone -> D
LABELS = 78


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


def timed(run: Callable[[], Any], device: torch.device, repeats: int, warm_up: int = 2) -> list[float]:
    """Seconds of each repeat, after warm-up, synchronised."""
    seconds = []
    for index in range(warm_up + repeats):
        _synchronise(device)
        begin = time.perf_counter()
        run()
        _synchronise(device)
        if index >= warm_up:
            seconds.append(time.perf_counter() - begin)
    return seconds


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
    """Measured FLOP/s of one large square matrix product."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / statistics.median(timed(lambda: a @ b, device, 5))


def measure(
    device: str = "cpu",
    size: int = 224,
    groups: int = 4,
    images: int = 5,
    repeats: int = 3,
    models: tuple[str, ...] = tuple(MODELS),
) -> dict[str, Any]:
    """Rows per model and precision: forward and step seconds (median, spread), images/s, share of the spatial
    modulator, peak memory, the two floors and the ratio of the step to the larger one."""
    where = torch.device(device)
    rows = []
    bandwidth = copy_rate(where)
    for backbone in models:
        operations, values = (3 * groups * images * cost for cost in cost_per_image(backbone, size))
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            row = _measure_model(backbone, precision, where, size, groups, images, repeats)
            compute_floor = operations / product_rate(where, dtype)
            memory_floor = values * dtype.itemsize / bandwidth
            floors = {"step_gflop": operations / 1e9, "step_gb": values * dtype.itemsize / 1e9,
                      "compute_floor_s": compute_floor, "memory_floor_s": memory_floor}
            ratio = row["step_s"] / max(compute_floor, memory_floor)
            rows.append({"model": backbone, "precision": precision, **row, **floors, "step_over_floor": ratio})
    return {"name": "network", "batch": f"{groups} x {images} x {size}", "rows": rows}


def _measure_model(
    backbone: str, precision: str, device: torch.device, size: int, groups: int, images: int, repeats: int
) -> dict[str, float]:
    torch.manual_seed(0)
    model = build(backbone).to(device, memory_format=torch.channels_last).train()
    batch = random_batch(groups, images, size, device)
    optimizer = torch.optim.Adam([{"params": list(model.parameters()), "base_lr": 1e-4, "lr": 1e-4}])
    state = TrainState(model, optimizer, Schedule("constant", 1_000_000))
    options = LoopOptions(steps=1_000_000, precision=precision)
    criterion = CosegCriterion(spa_reduction="mean")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = timed(lambda: train_step(lambda b: model(b.images), criterion, [batch], state, options), device, repeats)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            model(batch.images)

    model.eval()
    ahead = timed(forward, device, repeats)
    phi = torch.randn(groups, images, MODELS[backbone], -(-size // 32), -(-size // 32), device=device)
    spatial = timed(lambda: model.spatial(phi), device, repeats)
    median = statistics.median(step)
    return {
        "parameters_m": count_parameters(model) / 1e6,
        "forward_s": statistics.median(ahead),
        "forward_images_per_s": groups * images / statistics.median(ahead),
        "step_s": median,
        "step_spread_s": max(step) - min(step),
        "images_per_s": groups * images / median,
        "spatial_share": statistics.median(spatial) / median,
        "peak_gib": peak,
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
