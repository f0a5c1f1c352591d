"""Inference per model: images/s and peak memory of whole groups and of batches of groups.

    python benchmarks/run.py --only inference [--device cuda] [--models NAME ...]

Images are already decoded and resized (uint8, in memory); what is timed is the predictor, from them to probabilities
in the host's memory. A group larger than a chunk goes through the backbone twice, see ssnm/coseg/predict.py.
Every row is measured in a process of its own, in float32.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from measuring import alone, peak_gib, timed
from network import MODELS, build

from ssnm.coseg.predict import Predictor

CASES = ((1, 5), (4, 5), (1, 25))  # groups in one call, images in a group


def measure(
    device: str = "cpu",
    models: tuple[str, ...] = tuple(MODELS),
    cases: tuple[tuple[int, int], ...] = CASES,
    size: int = 224,
    repeats: int = 2,
) -> dict[str, Any]:
    """Rows per model and case: median seconds of a call, images/s, peak memory."""
    rows = [alone(measure_case, backbone, *case, device, size, repeats) for backbone in models for case in cases]
    return {"name": "inference", "batch": f"images of {size}", "rows": rows}


def measure_case(backbone: str, groups: int, images: int, device: str, size: int, repeats: int) -> dict[str, Any]:
    """One row of :func:`measure`: one group by `predict_tensors`, several by `predict_groups`."""
    predictor = Predictor(build(backbone).to(memory_format=torch.channels_last), size, device)
    stack = torch.randint(0, 256, (groups, images, 3, size, size), dtype=torch.uint8)
    sizes = [[(size, size)] * images] * groups

    def run() -> None:
        if groups == 1:
            predictor.predict_tensors(stack[0], sizes[0])
        else:
            predictor.predict_groups(stack, sizes)

    seconds = statistics.median(timed(run, predictor.device, repeats, warm_up=1))
    chunked = f", chunks of {predictor.chunk}" if groups == 1 and images > predictor.chunk else ""
    return {
        "model": backbone,
        "call": f"{groups} group{'s' if groups > 1 else ''} of {images}{chunked}",
        "seconds": seconds,
        "images_per_s": groups * images / seconds,
        "peak_gib": peak_gib(predictor.device),
    }
