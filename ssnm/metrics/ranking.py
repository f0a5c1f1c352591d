"""How well a figure separates two kinds: the area under the ROC curve (AUC), and that of a spatial mask; and how well
it orders what another figure orders: Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has a higher score than a negative, ties counted half (Mann and Whitney 1947).

    Args:
        scores: (n,) finite.
        positive: (n,) bool, or a share in [0, 1]: then an entry counts as a positive of that weight and as a negative
            of the rest.

    Returns:
        In [0, 1]; 0.5 says nothing. NaN where there are no positives or no negatives.

    Raises:
        DataError: shapes differ, or a score is not a number.
    """
    scores, share = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(positive, dtype=np.float64).ravel()
    if scores.shape != share.shape or not np.isfinite(scores).all():
        raise DataError(f"AUC needs one finite score per entry, got {scores.shape} scores for {share.shape} entries")
    values, place = np.unique(scores, return_inverse=True)
    won = np.bincount(place, share, len(values))  # positives at each distinct score, ascending
    lost = np.bincount(place, 1 - share, len(values))
    below = np.cumsum(lost) - lost
    pairs = won.sum() * lost.sum()
    return float((won * (below + lost / 2)).sum() / pairs) if pairs > 0 else float("nan")


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two figures (n,), ties at their mean rank; in [-1, 1], NaN where one is constant.

    Raises:
        DataError: shapes differ, or a figure is not a number.
    """
    first, second = (np.asarray(x, dtype=np.float64).ravel() for x in (first, second))
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError(f"a rank correlation needs two finite figures per entry, got {first.shape}, {second.shape}")
    a, b = (_ranks(x) - (len(x) - 1) / 2 for x in (first, second))
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """0 for the lowest; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def spatial_auc(masks: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """AUC of a group's spatial masks (h, w), at their own size, against the share of truth (H, W) in each position,
    all images of the group together; positive values mean the object."""
    shares = [cell_shares(truth, mask.shape) for mask, truth in zip(masks, truths, strict=True)]
    return auc(np.concatenate([np.ravel(m) for m in masks]), np.concatenate([s.ravel() for s in shares]))


def cell_shares(truth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The share of True in each of `shape` equal cells of a mask (H, W) bool: (h, w) float in [0, 1]. Pixels on the
    border of two cells count for both by their parts."""
    rows, columns = (_parts(size, cells) for size, cells in zip(truth.shape, shape))
    return rows @ truth.astype(np.float64) @ columns.T


def _parts(size: int, cells: int) -> np.ndarray:
    """(cells, size): how much of each cell every pixel makes up; rows sum to 1."""
    pixel, cell = np.arange(size), np.arange(cells)[:, None] * size / cells
    overlap = np.minimum(pixel + 1, cell + size / cells) - np.maximum(pixel, cell)
    return np.clip(overlap, 0, None) * cells / size
