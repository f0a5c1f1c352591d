"""What reading JPEGs reduced costs in masks: large photographs read whole and reduced, through the shipped model.

    SSNM_DATA=DIR python benchmarks/run.py --only reduced_decoding

Photographs of VOC_coseg_FaktorIrani enlarged to 4000 pixels with the noise of a sensor, saved as JPEG: real scenes at
the size of a phone's pictures. Groups of five of one class. IoU of the masks of both readings, and J of each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ssnm
from ssnm.data.testsets import read_test_set
from ssnm.files.images import load_rgb
from ssnm.files.masks import read_binary
from ssnm.metrics import jaccard

LONGER_SIDE, NOISE, QUALITY = 4000, 5.0, 90


def measure(data: Path, device: str = "cpu", groups: int = 40, group_size: int = 5) -> dict[str, Any]:
    """One row: mean and lowest IoU over groups * group_size photographs, J of both readings in percent."""
    test_set = read_test_set("folder", data / "VOC_coseg_FaktorIrani")
    segmenter, rng = ssnm.from_pretrained(None, device), np.random.default_rng(0)
    agreed, scores = [], []
    for number in range(groups):
        category = test_set.categories[number % len(test_set.categories)]
        members = [image for image in test_set.images if image.category == category]
        first = number // len(test_set.categories) * group_size
        chosen = members[first : first + group_size]
        with tempfile.TemporaryDirectory() as folder:
            paths = [_enlarged(image.image, Path(folder) / f"{i}.jpg", rng) for i, image in enumerate(chosen)]
            reduced = segmenter.segment(paths, absent="keep")
            whole = segmenter.segment([load_rgb(path).array for path in paths], absent="keep")
        for index, image in enumerate(chosen):
            truth = read_binary(image.truth).object
            masks = [result.prediction.above(index, 0.5) for result in (reduced, whole)]
            union = int((masks[0] | masks[1]).sum())
            agreed.append(1.0 if union == 0 else int((masks[0] & masks[1]).sum()) / union)
            small = [result.prediction.above(index, 0.5, truth.shape) for result in (reduced, whole)]
            scores.append([100 * jaccard(mask, truth) for mask in small])
    reduced_J, whole_J = np.mean(scores, axis=0)
    row = {"photographs": len(agreed), "IoU_mean": float(np.mean(agreed)), "IoU_lowest": float(np.min(agreed)),
           "below_0.95": int(np.sum(np.array(agreed) < 0.95)), "J_reduced": float(reduced_J), "J_whole": float(whole_J)}
    return {"name": "reduced_decoding", "rows": [row]}


def _enlarged(source: Path, target: Path, rng: np.random.Generator) -> Path:
    image = Image.fromarray(load_rgb(source).array)
    scale = LONGER_SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    noise = NOISE * rng.standard_normal((image.height, image.width, 1), dtype=np.float32)
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(target, quality=QUALITY)
    return target
