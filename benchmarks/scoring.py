"""How long scoring takes: 1037 maps of 375x282, the size of the PASCAL-VOC co-segmentation test set.

    python benchmarks/scoring.py [--images 1037] [--repeats 3]

The maps and masks are smooth random fields written as PNG into a temporary folder; no photograph is needed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installation

from ssnm.files.parallel import usable_cores
from ssnm.metrics import score_folder
from ssnm.metrics.tables import text_table

SIZE = (375, 282)  # width, height
CLASSES = 20
CASES = (("release", 1), ("release", None), ("paper", 1), ("paper", None))


def write_set(root: Path, images: int, seed: int = 0) -> None:
    """Write ``images`` pairs of a blob mask and a noisy map of it under root/pred and root/gt."""
    rng = np.random.default_rng(seed)
    for index in range(images):
        folder = f"class_{index % CLASSES:02d}"
        field = _smooth(rng, (9, 12))
        truth = field > np.quantile(field, 0.75)
        prob = np.clip(0.3 + 0.6 * (field - field.mean()) / field.std() * 0.5 + 0.2 * _smooth(rng, (40, 30)), 0, 1)
        for kind, values in (("gt", truth * np.uint8(255)), ("pred", (prob * 255).round().astype(np.uint8))):
            path = root / kind / folder / f"img_{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)


def _smooth(rng: np.random.Generator, grid: tuple[int, int]) -> np.ndarray:
    coarse = Image.fromarray(rng.standard_normal(grid).astype(np.float32))
    return np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC))


def measure(images: int = 1037, repeats: int = 3) -> dict[str, Any]:
    """Seconds (median over ``repeats``, after one warm-up) to score ``images`` maps, per protocol and threads."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root, images)
        score_folder(root / "pred", root / "gt")  # warm-up: imports, file cache
        for protocol, workers in CASES:
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                score_folder(root / "pred", root / "gt", protocol, workers=workers)
                seconds.append(time.perf_counter() - start)
            rows.append(
                {
                    "protocol": protocol,
                    "threads": workers or usable_cores(),
                    "seconds": median(seconds),
                    "spread": max(seconds) - min(seconds),
                    "images_per_second": images / median(seconds),
                }
            )
    return {"name": "scoring", "images": images, "size": SIZE, "repeats": repeats, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The result of :func:`measure` for a terminal."""
    rows = [
        [r["protocol"], str(r["threads"]), f"{r['seconds']:.2f}", f"{r['spread']:.2f}", f"{r['images_per_second']:.0f}"]
        for r in result["rows"]
    ]
    title = f"scoring {result['images']} maps of {SIZE[0]}x{SIZE[1]}, median of {result['repeats']}"
    return title + "\n" + text_table(["protocol", "threads", "seconds", "spread", "images/s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1037)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(table(measure(args.images, args.repeats)))


if __name__ == "__main__":
    main()
