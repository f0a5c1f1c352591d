"""A folder of 12-megapixel photographs through `segment`: seconds per photograph by part, beside the network's own.

    taskset -c 0 env OMP_NUM_THREADS=1 python benchmarks/run.py --only photographs

JPEGs of 4000x3000, of procedural scenes with the noise of a sensor (about 3 MB each). `whole` is what the command does:
read, segment, masks and overlays written. Its parts are measured one after the other in the same process, the network
alone on images that lie ready; on several cores they overlap, so that their sum is more than the whole.
"""

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
from ssnm.coseg.segmentation import Segmentation
from ssnm.data.procedural import ProceduralSource

SIZE = (3000, 4000)
SCENES, NOISE = 5, 6.0


def measure(counts: tuple[int, ...] = (100,), device: str = "cpu", checkpoint: str | None = None) -> dict[str, Any]:
    """One row per number of photographs, each in a process of its own, see :func:`measure_folder`."""
    return {"name": "photographs", "rows": [alone(measure_folder, n, device, checkpoint) for n in counts]}


def write_photographs(folder: Path, count: int) -> list[Path]:
    """`count` JPEGs; scenes repeat, every file is written of its own."""
    source, rng = ProceduralSource(num_images=SCENES, seed=0), np.random.default_rng(0)
    contents = []
    for index in range(SCENES):
        small = Image.fromarray(source.render(index, (SIZE[0] // 5, SIZE[1] // 5))[0])
        large = np.asarray(small.resize(SIZE[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = large + NOISE * rng.standard_normal((*SIZE, 1), dtype=np.float32)
        path = folder / "scene.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        contents.append(path.read_bytes())
        path.unlink()
    paths = [folder / f"{index:05d}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(contents[index % SCENES])
    return paths


def measure_folder(photographs: int, device: str, checkpoint: str | None) -> dict[str, Any]:
    """Seconds per photograph of the whole and of its parts; ratio: whole over network; peak memory in GiB."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), photographs)
        segmenter = ssnm.from_pretrained(checkpoint, device)
        segmenter.segment(paths[:5])  # warm-up
        before = peak_gib(torch.device("cpu"))
        begin = time.perf_counter()
        result = segmenter.segment(paths, save_to=Path(folder) / "out")
        whole = (time.perf_counter() - begin) / photographs
        peak = peak_gib(torch.device("cpu"))
        return {
            "photographs": photographs,
            "MB_each": paths[0].stat().st_size / 1e6,
            "whole_s": whole,
            "network_s": (network := _network(segmenter, paths[:20])),
            "ratio": whole / network,
            "photos_per_s": 1 / whole,
            **_parts(segmenter, result, paths[:20]),
            "peak_gib_before": before,
            "peak_gib": peak,
        }


def _network(segmenter: Any, paths: list[Path], repeats: int = 3) -> float:
    """Median seconds per image of the network alone, both its halves."""
    predictor = segmenter.predictor
    stack = torch.stack([predictor.read(path)[0] for path in paths])
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        predictor.predict_tensors(stack, [SIZE] * len(stack))
        seconds.append((time.perf_counter() - begin) / len(stack))
    return sorted(seconds)[repeats // 2]


def _parts(segmenter: Any, result: Segmentation, paths: list[Path]) -> dict[str, float]:
    """Seconds per photograph on one core of reading, making a mask, and what is written of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "read_s": lambda i: segmenter.predictor.read_photo(paths[i], keep_shown=True),
            "mask_s": lambda i: result.masks[i],
            "save_masks_s": lambda i: result.write_image(i, Path(folder), str(i), ("masks",)),
            "save_overlays_s": lambda i: result.write_image(i, Path(folder), str(i), ("overlays",)),
        }
        seconds = {}
        for name, run in parts.items():
            begin = time.perf_counter()
            for index in range(len(paths)):
                run(index)
            seconds[name] = (time.perf_counter() - begin) / len(paths)
    return seconds
