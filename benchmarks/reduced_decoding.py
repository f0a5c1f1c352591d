"""What reading JPEGs reduced costs in masks: large photographs read whole and reduced, through the shipped model.

    SSNM_DATA=DIR python benchmarks/run.py --only reduced_decoding

Photographs of VOC_coseg_FaktorIrani enlarged to 4000 pixels with the noise of a sensor, saved as JPEG: real scenes at
the size of a phone's pictures. Groups of five of one class. IoU of the masks of both readings, and J of each; beside
it, as a control, the same for the whole reading at the network's side, once as it is and once with every value changed
by -1, 0 or 1 of 255: what the network itself makes of a difference that nobody sees.
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
    """Two rows: mean and lowest IoU over groups * group_size photographs, J of both masks in percent."""
    test_set = read_test_set("folder", data / "VOC_coseg_FaktorIrani")
    segmenter, rng = ssnm.from_pretrained(None, device), np.random.default_rng(0)
    side = segmenter.predictor.size
    overlaps: dict[str, list[float]] = {"reduced, whole": [], "one level off, whole": []}
    scores: dict[str, list[list[float]]] = {name: [] for name in overlaps}
    for number in range(groups):
        category = test_set.categories[number % len(test_set.categories)]
        members = [image for image in test_set.images if image.category == category]
        first = number // len(test_set.categories) * group_size
        chosen = members[first : first + group_size]
        with tempfile.TemporaryDirectory() as folder:
            paths = [_enlarged(image.image, Path(folder) / f"{i}.jpg", rng) for i, image in enumerate(chosen)]
            read = [load_rgb(path).array for path in paths]
            reduced = segmenter.segment(paths, absent="keep")
        small = [np.asarray(Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR)) for array in read]
        off = [(array + rng.integers(-1, 2, array.shape)).clip(0, 255).astype(np.uint8) for array in small]
        whole, plain, shaken = (segmenter.segment(arrays, absent="keep") for arrays in (read, small, off))
        for index, image in enumerate(chosen):
            truth = read_binary(image.truth).object
            for name, pair in zip(overlaps, ((reduced, whole), (shaken, plain))):
                overlaps[name].append(_iou(*(result.prediction.above(index, 0.5) for result in pair)))
                masks = [result.prediction.above(index, 0.5, truth.shape) for result in pair]
                scores[name].append([100 * jaccard(mask, truth) for mask in masks])
    rows = []
    for name, values in overlaps.items():
        J = np.mean(scores[name], axis=0)
        rows.append({"masks": name, "photographs": len(values), "IoU_mean": float(np.mean(values)),
                     "IoU_lowest": float(np.min(values)), "below_0.95": int(np.sum(np.array(values) < 0.95)),
                     "J_first": float(J[0]), "J_second": float(J[1])})  # fmt: skip
    return {"name": "reduced_decoding", "rows": rows}


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    union = int((first | second).sum())
    return 1.0 if union == 0 else int((first & second).sum()) / union


def _enlarged(source: Path, target: Path, rng: np.random.Generator) -> Path:
    image = Image.fromarray(load_rgb(source).array)
    scale = LONGER_SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    noise = NOISE * rng.standard_normal((image.height, image.width, 1), dtype=np.float32)
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(target, quality=QUALITY)
    return target
