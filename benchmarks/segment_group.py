"""One group of many photographs with the shipped model: time, images/s and peak memory of `segment` and `save`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import alone, peak_gib
from PIL import Image

import ssnm


def measure(
    counts: tuple[int, ...] = (250, 1000), height: int = 480, width: int = 640, device: str = "cpu",
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """One row per number of images, each in a process of its own, see :func:`measure_group`."""
    rows = [alone(measure_group, images, height, width, device, checkpoint) for images in counts]
    return {"name": "segment_group", "rows": rows}


def measure_group(images: int, height: int, width: int, device: str, checkpoint: str | None) -> dict[str, Any]:
    """Writes `images` random JPEGs, segments them as one group, saves masks and overlays; peak resident memory in GiB,
    before and after."""
    cpu = torch.device("cpu")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index in range(images):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            paths.append(Path(folder) / f"{index:05d}.jpg")
            coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
        segmenter = ssnm.from_pretrained(checkpoint, device)
        segmenter.segment(paths[:5])  # warm-up
        before = peak_gib(cpu)
        begin = time.perf_counter()
        result = segmenter.segment(paths)  # its probabilities lie in the host's memory: nothing is left to wait for
        segmented = time.perf_counter() - begin
        result.save(Path(folder) / "out")
        saved = time.perf_counter() - begin - segmented
    return {
        "images": images,
        "size": f"{width}x{height}",
        "segment_s": segmented,
        "images_per_s": images / segmented,
        "save_s": saved,
        "peak_gib_before": before,
        "peak_gib": peak_gib(cpu),
    }
