"""Instance masks in COCO's results format, and COCO's own AP and AR of them, categories not looked at.

One entry per mask: {"image_id", "category_id", "segmentation": {"size": [h, w], "counts": text}, "score", "bbox"}.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.shapes import checked_runs, import_mask_codec
from ..naming import counted

MOST_MASKS = 100  # of an image, by COCO's rule
AP_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # COCO's order


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool -> COCO's compressed run lengths, with text as counts: ready for JSON."""
    code = import_mask_codec().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_mask(code: Any, where: str) -> np.ndarray:
    """COCO's run lengths, compressed (text) or plain (a list) -> (H, W) bool.

    Args:
        where: begins the error messages.

    Raises:
        DataError: not run lengths, or such that do not add up to the size.
    """
    if not isinstance(code, dict):
        raise DataError(f"{where}: run lengths {{size, counts}} were expected, got {str(code)[:60]}")
    try:
        runs = checked_runs(code)
    except ValueError as error:
        raise DataError(f"{where}: {error}; write the file again") from None
    size = code["size"]
    values = np.arange(len(runs)) % 2 == 1  # runs of 0 and 1 in turn, column by column
    return np.repeat(values, runs).reshape(size[1], size[0]).T  # (W, H) -> (H, W)


def instance_records(
    image_id: int, masks: np.ndarray, scores: np.ndarray, category_id: int = 1, **more: Any
) -> list[dict[str, Any]]:
    """The entries of one image: masks (k, H, W) bool, scores (k,). more: further keys of each, such as file_name."""
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "segmentation": encode_mask(mask),
            "score": float(score),
            "bbox": _box(mask),
            **more,
        }
        for mask, score in zip(masks, scores)
    ]


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a results file, or of the `annotations` of a COCO file.

    Raises:
        MissingFileError, DataError: no such file, not JSON, or not a list of entries with image_id and segmentation.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; COCO results (a JSON list) were expected")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    entries = document.get("annotations") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: a list of COCO results was expected")
    for number, entry in enumerate(entries):
        missing = next((key for key in ("image_id", "segmentation") if key not in entry), None)
        if missing is not None:
            raise DataError(f"{path}: entry {number} has no {missing}; COCO results name image_id and segmentation")
        score = entry.get("score", 1.0)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not np.isfinite(score):
            raise DataError(f"{path}: entry {number} has the score {score!r}; a finite number was expected")
    return entries


class CocoEvaluation:
    """COCO's twelve numbers over images that are given one by one (`useCats = 0`), by pycocotools."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._truths: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, masks: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> None:
        """One image: masks (k, H, W) bool, scores (k,), truth (g, H, W) bool."""
        number = len(self._images) + 1
        self._images.append({"id": number, "height": truth.shape[1], "width": truth.shape[2]})
        self._found += instance_records(number, masks, scores)
        for record, mask in zip(instance_records(number, truth, np.ones(len(truth))), truth):
            area = float(np.count_nonzero(mask))
            self._truths.append({**record, "id": len(self._truths) + 1, "area": area, "iscrowd": 0})

    def result(self) -> dict[str, float]:
        """`AP_NAMES` -> value in [0, 1], nan where there is nothing to measure (pycocotools says -1)."""
        import_mask_codec()
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        if not self._truths:
            return dict.fromkeys(AP_NAMES, float("nan"))
        if not self._found:
            return dict.fromkeys(AP_NAMES, 0.0)
        one = [{"id": 1, "name": "object"}]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {"images": self._images, "annotations": self._truths, "categories": one}
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(self._found), "segm")
            evaluation.params.useCats = 0
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        # pycocotools adds 2e-16 to a denominator; unrounded, the precision of one object that is found is 1 - 2e-16
        return {name: round(float(v), 12) if v >= 0 else float("nan") for name, v in zip(AP_NAMES, evaluation.stats)}

    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know: COCO looks at 100 masks of an image, whatever it shows."""
        objects = Counter(truth["image_id"] for truth in self._truths)
        crowded = sum(count > MOST_MASKS for count in objects.values())
        return (f"COCO's AP and AR look at {MOST_MASKS} masks of an image; {counted(crowded, 'image')} with more "
                "objects, so that even the truth stays below 100 there",) if crowded else ()  # fmt: skip


def coco_scores(
    predictions: Sequence[np.ndarray], scores: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> dict[str, float]:
    """:class:`CocoEvaluation` of lists over images of (k, H, W) bool, (k,) and (g, H, W) bool."""
    evaluation = CocoEvaluation()
    for masks, one, truth in zip(predictions, scores, truths):
        evaluation.add(masks, one, truth)
    return evaluation.result()


def _box(mask: np.ndarray) -> list[float]:
    """[x, y, width, height]; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0.0, 0.0, 0.0, 0.0]
    x, y = float(columns[0]), float(rows[0])
    return [x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y]
