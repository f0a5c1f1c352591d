"""Average precision of instance masks and correct localization, as DeepCO3 (CVPR 2019) measures them.

Matching is not PASCAL's: a prediction takes the object of largest IoU *among those not yet covered*, so a second
detection of a covered object may still be matched to its neighbour.

The authors' program skips an image without truth (or without predictions) before it advances the place where it
writes: the false alarms of such an image lose their scores, and the end of the list is filled with false alarms of
score 0. Here every prediction counts with its own score, so numbers can be lower than theirs on such groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..naming import counted

THRESHOLDS = (0.25, 0.5, 0.75)
Box = tuple[float, float, float, float]


def average_precision(
    predictions: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    thresholds: Sequence[float] = THRESHOLDS,
) -> np.ndarray:
    """AP of one group at each threshold: the area under its monotone precision-recall curve, all points.

    The mean of it over the groups of a data set is mAP^r.

    Args:
        predictions: per image (k, H, W) bool, k may be 0.
        scores: per image (k,).
        truths: per image (g, H, W) bool of the same size, g may be 0.
        thresholds: a prediction is right if its IoU is strictly greater.

    Returns:
        (thresholds,) in [0, 1]; nan where the group has no object at all.

    Raises:
        DataError: lists of different lengths, arrays of other shapes or types, scores that are not finite.
    """
    check_group(predictions, scores, truths)
    overlaps = [overlap_matrix(truth, masks) for truth, masks in zip(truths, predictions)]
    return average_precision_of(overlaps, scores, thresholds)


def average_precision_of(
    overlaps: Sequence[np.ndarray], scores: Sequence[np.ndarray], thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """The same from the IoU matrices (g, k) of the images, objects by predictions."""
    objects = sum(len(one) for one in overlaps)
    pooled = np.concatenate([np.asarray(one, dtype=np.float64) for one in scores]) if len(scores) else np.zeros(0)
    order = np.argsort(-pooled, kind="stable")
    result = []
    for threshold in thresholds:
        labels = [match(overlap, one, threshold) for overlap, one in zip(overlaps, scores)]
        right = np.concatenate(labels)[order] if labels else np.zeros(0, dtype=bool)
        result.append(area_under_curve(right, objects))
    return np.array(result)


def match(overlap: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Which predictions of an image are right.

    By falling score, each takes the uncovered object of largest IoU and covers it if that IoU > threshold.

    Args:
        overlap: (g, k) IoU, objects by predictions.
        scores: (k,).

    Returns:
        (k,) bool, in the order of `scores`.
    """
    right = np.zeros(len(scores), dtype=bool)
    free = overlap.astype(np.float64, copy=True)
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        if not len(free):
            break
        best = int(free[:, index].argmax())
        if free[best, index] > threshold:
            right[index] = True
            free[best] = -1.0  # covered
    return right


def area_under_curve(right: np.ndarray, objects: int) -> float:
    """AP of labels (n,) sorted by falling score, out of `objects` objects; nan if there are none."""
    if objects == 0:
        return float("nan")
    hits = np.cumsum(right)
    recall = np.concatenate([[0.0], hits / objects, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(right) + 1), [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]  # never rising with recall
    return float(np.sum(np.diff(recall) * precision[1:]))


def overlap_matrix(truths: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """IoU (g, k) of objects (g, H, W) with predictions (k, H, W); 0 where both are empty."""
    if not len(truths) or not len(predictions):
        return np.zeros((len(truths), len(predictions)))
    common = np.array([[np.count_nonzero(t & p) for p in predictions] for t in truths], dtype=np.float64)
    areas = np.count_nonzero(truths, axis=(1, 2))[:, None] + np.count_nonzero(predictions, axis=(1, 2))[None]
    union = areas - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def proposal_ceiling(overlaps: Sequence[np.ndarray], threshold: float = 0.5) -> tuple[float, float]:
    """What the best choice among proposals would reach: recall at `threshold` and mean best overlap.

    Args:
        overlaps: per image IoU (g, M), objects by proposals.

    Returns:
        Both over all objects; nan if there are none.
    """
    best = np.concatenate([one.max(axis=1, initial=0.0) for one in overlaps]) if len(overlaps) else np.zeros(0)
    if not len(best):
        return float("nan"), float("nan")
    return float((best > threshold).mean()), float(best.mean())


def correct_localization(boxes: Sequence[Box | None], truths: Sequence[Sequence[Box]], threshold: float = 0.5) -> float:
    """CorLoc of a group: the share of images whose one box has IoU > `threshold` with any object's box.

    Args:
        boxes: per image (x0, y0, x1, y1) with ends excluded, or None: counted as wrong.
        truths: per image the boxes of its objects. Images without objects are left out.

    Returns:
        In [0, 1]; nan if no image has an object.
    """
    if len(boxes) != len(truths):
        raise DataError(f"one box and one list of true boxes per image are needed, got {len(boxes)} and {len(truths)}")
    hits = [
        box is not None and any(box_overlap(box, other) > threshold for other in others)
        for box, others in zip(boxes, truths)
        if len(others)
    ]
    return float(np.mean(hits)) if hits else float("nan")


def box_overlap(first: Box, second: Box) -> float:
    """IoU of two boxes (x0, y0, x1, y1) with ends excluded."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return common / (sum(areas) - common) if common else 0.0


def check_group(predictions: Sequence, scores: Sequence, truths: Sequence) -> None:
    """What :func:`average_precision` needs of its lists.

    Raises:
        DataError: see there.
    """
    if not len(predictions) == len(scores) == len(truths):
        raise DataError(
            f"one entry per image is needed in each list, got {counted(len(predictions), 'prediction')}, "
            f"{counted(len(scores), 'score')} and {counted(len(truths), 'truth')}"
        )
    for index, (masks, one, truth) in enumerate(zip(predictions, scores, truths)):
        for name, array in (("predictions (k, H, W)", masks), ("truths (g, H, W)", truth)):
            if np.ndim(array) != 3 or np.asarray(array).dtype != np.bool_:
                raise DataError(f"image {index}: {name} of type bool are needed, got {np.asarray(array).dtype} "
                                f"{np.shape(array)}")
        if masks.shape[1:] != truth.shape[1:]:
            raise DataError(f"image {index}: predictions of {masks.shape[1:]} and truths of {truth.shape[1:]} pixels "
                            "cannot be compared; bring them to one size")
        if np.shape(one) != (len(masks),) or not np.isfinite(one).all():
            raise DataError(f"image {index}: {len(masks)} finite scores are needed, got shape {np.shape(one)} or nan")
