"""One group of many photographs with the shipped model: time, images/s and peak memory of `segment` and `save`."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ssnm


def measure(images: int = 1000, height: int = 480, width: int = 640, checkpoint: str | None = None) -> dict[str, Any]:
    """Writes `images` random JPEGs, segments them as one group, saves masks and overlays; peak resident memory."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index in range(images):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            paths.append(Path(folder) / f"{index:05d}.jpg")
            coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
        segmenter = ssnm.from_pretrained(checkpoint, "cpu")
        segmenter.segment(paths[:5])  # warm-up
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        result = segmenter.segment(paths)
        segmented = time.perf_counter() - begin
        result.save(Path(folder) / "out")
        saved = time.perf_counter() - begin - segmented
    row = {
        "images": images,
        "size": f"{width}x{height}",
        "segment_s": segmented,
        "images_per_s": images / segmented,
        "save_s": saved,
        "peak_gb_before": before / 1e6,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    return {"name": "segment_group", "rows": [row]}
