"""Mean J at every threshold k/255 at once, from the histograms of all images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .protocol import Protocol


def jaccard_curve(
    histograms: Sequence[np.ndarray], categories: Sequence[str], protocol: Protocol
) -> tuple[float | None, ...]:
    """The protocol's headline average of J at the 256 thresholds k/255, k = 0..255.

    histograms: per image (2, 256), see :func:`ssnm.metrics.measures.level_histogram`; categories: its class. Empty
    ground truth is treated as the protocol says; None everywhere if no image is left.
    """
    histogram = np.stack(histograms)  # (M, 2, 256)
    names = np.array(categories)
    has_object = histogram[:, 1].sum(axis=1) > 0
    if protocol.empty == "skip":
        histogram, names, has_object = histogram[has_object], names[has_object], has_object[has_object]
    if len(histogram) == 0:
        return (None,) * 256
    classes = list(dict.fromkeys(names.tolist()))
    if protocol.headline == "pooled":
        pooled = np.stack([histogram[names == c].sum(axis=0) for c in classes])  # (K, 2, 256)
        return tuple(_jaccard_rows(pooled, protocol.empty).mean(axis=0).tolist())
    rows = _jaccard_rows(histogram, protocol.empty)  # (M, 256)
    if protocol.headline == "classes":
        rows = np.stack([rows[names == c].mean(axis=0) for c in classes])
    return tuple(rows.mean(axis=0).tolist())


def best_level(curve: Sequence[float | None]) -> int:
    """The smallest k for which the threshold k/255 gives the largest mean J; 0 if the curve holds no value."""
    return max(range(len(curve)), key=lambda level: (-1.0 if curve[level] is None else curve[level], -level))


def _jaccard_rows(histogram: np.ndarray, empty: str) -> np.ndarray:
    """(M, 2, 256) -> J (M, 256) at level k: the pixels whose level is above k are foreground."""
    total = histogram.sum(axis=2, keepdims=True)
    above = total - histogram.cumsum(axis=2)
    false_positive, true_positive = above[:, 0], above[:, 1]
    true = total[:, 1]  # (M, 1)
    jaccard = true_positive / np.maximum(true + false_positive, 1)
    if empty == "one_if_empty":
        jaccard = np.where((true == 0) & (false_positive == 0), 1.0, jaccard)
    return jaccard
