"""The measures of DAVIS: region similarity J, boundary accuracy F, and mean, recall and decay over a sequence.

They are those of the official tool (davis2017-evaluation, semi-supervised) and of Perazzi et al., "A Benchmark
Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016), section 4. numpy only.

H, W: size of a frame; T: scored frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import DataError

RECALL_THRESHOLD = 0.5
BOUNDARY_TOLERANCE = 0.008  # of the frame's diagonal
QUARTERS = 4


@dataclass(frozen=True)
class Statistics:
    """One measure over the frames of one object: mean, share of frames above 0.5, first minus last quarter."""

    mean: float
    recall: float
    decay: float


def region_similarity(truth: np.ndarray, prediction: np.ndarray) -> float:
    """J = |truth & prediction| / |truth | prediction| of masks (H, W) bool; 1 where both are empty.

    Raises:
        DataError: masks of two sizes.
    """
    _check(truth, prediction)
    union = int(np.count_nonzero(truth | prediction))
    return 1.0 if union == 0 else int(np.count_nonzero(truth & prediction)) / union


def boundary_accuracy(truth: np.ndarray, prediction: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F, the harmonic mean of precision and recall of boundary pixels, for masks (H, W) bool.

    A boundary pixel is found where the other mask has one within ceil(tolerance * diagonal) pixels, Euclidean.
    Both boundaries empty: 1; one of them: 0.

    Raises:
        DataError: masks of two sizes.
    """
    _check(truth, prediction)
    radius = int(np.ceil(tolerance * np.hypot(*truth.shape)))
    true_border, border = boundary(truth), boundary(prediction)
    if not true_border.any() or not border.any():
        return float(not true_border.any() and not border.any())
    precision = _share_near(border, true_border, radius)
    recall = _share_near(true_border, border, radius)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def boundary(mask: np.ndarray) -> np.ndarray:
    """The boundary of mask (H, W) bool: pixels that differ from their right, lower or lower right neighbour.

    In the last row only the right neighbour counts, in the last column only the lower one (Martin's seg2bmap).
    """
    mask = np.asarray(mask, dtype=bool)
    border = np.zeros_like(mask)
    border[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    border[:-1] |= mask[:-1] ^ mask[1:]
    border[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return border


def statistics(values: np.ndarray) -> Statistics:
    """Mean, recall and decay of a measure's values (T,) in the order of the frames.

    The quarters of the decay share their border frames, as in the official tool: with T frames their limits are the
    rounded values of linspace(1, T, 5). That tool keeps them in 8 bits and fails beyond 256 frames; these do not.

    Raises:
        DataError: no value.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"statistics over frames need at least one value, got shape {values.shape}")
    limits = np.round(np.linspace(1, len(values), QUARTERS + 1) + 1e-10).astype(np.int64) - 1
    first, last = values[: limits[1] + 1], values[limits[-2] :]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > RECALL_THRESHOLD).mean()),
        decay=float(first.mean() - last.mean()),
    )


def _share_near(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    """Share of the pixels of `points` that have a pixel of `others` within `radius`; both (H, W) bool, not empty.

    Offsets are tried from the nearest on, for the points not found yet: most are found within a pixel or two.
    """
    padded = np.pad(others, radius)
    rows, columns = (axis + radius for axis in np.nonzero(points))
    total = len(rows)
    for down, right in _disc(radius):
        missed = ~padded[rows + down, columns + right]
        rows, columns = rows[missed], columns[missed]
        if len(rows) == 0:
            break
    return (total - len(rows)) / total


@lru_cache(maxsize=8)
def _disc(radius: int) -> tuple[tuple[int, int], ...]:
    """The offsets (down, right) within `radius`, nearest first."""
    span = range(-radius, radius + 1)
    inside = [(y, x) for y in span for x in span if x * x + y * y <= radius * radius]
    return tuple(sorted(inside, key=lambda offset: offset[0] ** 2 + offset[1] ** 2))


def _check(truth: np.ndarray, prediction: np.ndarray) -> None:
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise DataError(f"masks (H, W) of one size are needed, got truth {truth.shape}, prediction {prediction.shape}")
