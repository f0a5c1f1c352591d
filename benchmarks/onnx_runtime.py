"""The shipped model by torch, by ONNX and by ONNX of 8 bits: milliseconds per image of a group of five, one thread.

    python benchmarks/run.py --only onnx

From uint8 images in memory to probabilities. All three in one process, in turn. Random pictures calibrate the 8 bits:
speed alone is measured here; scores by `ssnm test`, see docs/deployment.md.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import alone, timed
from PIL import Image

import ssnm
from ssnm.cli import main

IMAGES, ROUNDS = 5, 5


def measure() -> dict[str, Any]:
    """Rows per runtime, in a process of one thread."""
    return {"name": "onnx", "batch": f"a group of {IMAGES}, one thread", "rows": alone(_rows, threads=1)}


def _rows() -> list[dict[str, Any]]:
    rng, cpu = np.random.default_rng(0), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        for index in range(IMAGES):
            small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            small.resize((320, 320), Image.Resampling.BICUBIC).save(place / "images" / f"{index}.png")
        for name, options in (("float32", []), ("int8", ["--int8", "--calibration", str(place / "images")])):
            if main(["export", "default", str(place / name), "--format", "onnx", *options]):
                raise RuntimeError("the export failed")
        models = {
            "torch": ssnm.from_pretrained(device="cpu"),
            "onnx float32": ssnm.from_pretrained(place / "float32"),
            "onnx int8": ssnm.from_pretrained(place / "int8"),
        }
    size = models["torch"].predictor.size
    stack = torch.from_numpy(rng.integers(0, 256, (IMAGES, 3, size, size), dtype=np.uint8))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            run = lambda m=model: m.predictor.predict_tensors(stack, [(size, size)] * IMAGES)  # noqa: E731
            seconds[name] += timed(run, cpu, 1, warm_up=1)
    return [
        {"runtime": name, "size": size, "ms_per_image": 1e3 * statistics.median(times) / IMAGES,
         "least_ms": 1e3 * min(times) / IMAGES, "most_ms": 1e3 * max(times) / IMAGES}
        for name, times in seconds.items()
    ]  # fmt: skip
