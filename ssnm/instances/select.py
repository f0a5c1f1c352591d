"""From peaks to masks: each peak takes the proposal it explains best, doubles and noise are dropped.

Legend: K peaks, M proposals, k masks that are kept, (H, W) the size at which masks are compared. Everything is numpy.
Section numbers are those of the paper "Deep Instance Co-segmentation by Co-peak Search and Co-saliency" (CVPR 2019):
the ranking is its Eq. (7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..metrics.mask_ap import overlap_matrix
from .contour import contours

NOISE_PERCENTILE = 20.0  # of all scores of a group; what lies below is taken for noise
_CHUNK_BYTES = 1 << 23  # proposals are turned into floats in pieces of this size


@dataclass(frozen=True)
class Ranking:
    """How proposals are ranked for a peak (Eq. 7).

    beta: weight of the response inside a proposal beside that on its contour; gamma: cost of a pixel of background;
    size_power: the score is divided by (area / image area) ** size_power, so that objects of all sizes compare
    (0 = the paper).
    """

    beta: float = 0.8
    gamma: float = 1e-5
    size_power: float = 0.0


def select_instances(
    saliency: np.ndarray,
    responses: np.ndarray,
    proposals: np.ndarray,
    beta: float = 0.8,
    gamma: float = 1e-5,
    nms: float = 0.4,
    area: tuple[float, float] = (2e-5, 0.85),
    *,
    size_power: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The instances of one image: the best proposal of each peak, without those that overlap a better one.

    Args:
        saliency: (H, W) co-saliency S.
        responses: (K, H, W) response of each peak, O, not yet multiplied by S.
        proposals: (M, H, W) bool.
        beta, gamma, size_power: see :class:`Ranking`.
        nms: masks of at least this IoU with a better one are dropped.
        area: smallest and largest share of the image that a proposal may cover, both inclusive.

    Returns:
        masks (k, H, W) bool and their scores (k,) by falling score; (0, H, W) and (0,) if nothing survives.

    Raises:
        DataError: arrays of other shapes or types, or values that are not finite.
    """
    saliency, responses, proposals = _checked(saliency, responses, proposals)
    fitting = within_area(proposals, area)
    if not len(responses) or not len(fitting):
        return np.zeros((0, *saliency.shape), dtype=bool), np.zeros(0)
    best, scores = best_proposals(saliency, responses, proposals, Ranking(beta, gamma, size_power), fitting)
    masks = proposals[best]
    kept = suppress(masks, scores, nms)
    return masks[kept], scores[kept]


def within_area(proposals: np.ndarray, area: tuple[float, float] = (2e-5, 0.85)) -> np.ndarray:
    """Indices of the proposals (M, H, W) whose share of the image lies in `area`, both ends included."""
    cells = proposals.shape[1] * proposals.shape[2]
    covered = covered_cells(proposals)
    return np.flatnonzero((covered >= area[0] * cells) & (covered <= area[1] * cells))


def covered_cells(masks: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """How many cells each of the masks (M, H, W) bool covers, of all or of those `within` (H, W) bool: (M,)."""
    # One by one: numpy counts a whole array by bytes, but along axes by adding up numbers of eight bytes.
    return np.array([np.count_nonzero(m if within is None else m & within) for m in masks], dtype=np.int64)


def best_proposals(
    saliency: np.ndarray, responses: np.ndarray, proposals: np.ndarray, ranking: Ranking = Ranking(),
    among: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each peak the index of the proposal that ranks first (the first of equals), and its score.

    Args:
        saliency: (H, W); responses: (K, H, W), K >= 1; proposals: (M, H, W) bool, M >= 1.
        among: indices of those that may be chosen, one or more; None: all.

    Returns:
        indices (K,) and scores (K,).
    """
    scores = rank(saliency, responses, proposals, ranking)  # of all: a copy of most masks would take longer
    among = np.arange(len(proposals)) if among is None else among
    best = among[scores[among].argmax(axis=0)]
    return best, scores[best, np.arange(len(responses))]


def rank(
    saliency: np.ndarray, responses: np.ndarray, proposals: np.ndarray, ranking: Ranking = Ranking()
) -> np.ndarray:
    """Eq. (7) for every proposal P and every peak: beta (O S) P + (O S) C(P) - gamma (1 - S) P.

    Sums run over pixels and are not divided by areas: with the paper's numbers a score grows with the image.

    Returns:
        (M, K), in the floating type of the inputs.
    """
    dtype = np.result_type(saliency, responses, np.float32)
    weighted = (responses * saliency).reshape(len(responses), -1).T.astype(dtype)  # (K, H, W) -> (HW, K)
    inside = ranking.beta * weighted - ranking.gamma * (1 - saliency).reshape(-1, 1)  # (HW, K)
    scores = np.empty((len(proposals), len(responses)), dtype)
    step = max(8, _CHUNK_BYTES // (saliency.size * dtype.itemsize) // 8 * 8)
    for start in range(0, len(proposals), step):
        part = proposals[start : start + step]
        band = contours(part)
        scores[start : start + step] = part.reshape(len(part), -1).astype(dtype) @ inside
        scores[start : start + step] += band.reshape(len(part), -1).astype(dtype) @ weighted
    if ranking.size_power:
        share = np.count_nonzero(proposals, axis=(1, 2)) / saliency.size
        scores /= np.maximum(share, 1 / saliency.size)[:, None] ** ranking.size_power
    return scores


def suppress(masks: np.ndarray, scores: np.ndarray, threshold: float = 0.4) -> np.ndarray:
    """Non-maximum suppression on masks: a mask stays if its IoU with every better one that stays is < `threshold`.

    Args:
        masks: (K, H, W) bool; scores: (K,).

    Returns:
        Indices of the masks that stay, by falling score; of equal scores the first comes first.
    """
    overlap = overlap_matrix(masks, masks)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(overlap[index, other] < threshold for other in kept):
            kept.append(int(index))
    return np.array(kept, dtype=np.intp)


def filter_noise(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Which masks of a group to keep: those at or above the 20th percentile of all the group's scores.

    The percentile is MATLAB's (numpy's method "hazen"). An image of which nothing would be left keeps its best mask.

    Args:
        scores: one array (k,) per image.

    Returns:
        One bool array (k,) per image.

    Raises:
        DataError: a score that is not finite.
    """
    arrays = [np.asarray(one, dtype=np.float64).reshape(-1) for one in scores]
    pooled = np.concatenate(arrays) if arrays else np.zeros(0)
    if not np.isfinite(pooled).all():
        raise DataError("scores of masks must be finite numbers, got nan or inf; look at the network's losses")
    threshold = np.percentile(pooled, NOISE_PERCENTILE, method="hazen") if len(pooled) else 0.0
    keep = [one >= threshold for one in arrays]
    for one, kept in zip(arrays, keep):
        if len(one) and not kept.any():
            kept[one.argmax()] = True
    return keep


def localization_box(masks: np.ndarray, scores: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box of object co-localization: the tight box (x0, y0, x1, y1), ends excluded, of the best mask.

    Args:
        masks: (k, H, W) bool; scores: (k,). None if there is no mask.
    """
    return tight_box(masks[int(np.argmax(scores))]) if len(masks) else None


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The smallest box (x0, y0, x1, y1), ends excluded, around a mask (H, W); None around an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _checked(saliency, responses, proposals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    saliency, responses, proposals = np.asarray(saliency), np.asarray(responses), np.asarray(proposals)
    if saliency.ndim != 2:
        raise DataError(f"a co-saliency map (H, W) is needed, got {saliency.shape}")
    for name, array in (("responses (K, H, W)", responses), ("proposals (M, H, W)", proposals)):
        if array.ndim != 3 or array.shape[1:] != saliency.shape:
            raise DataError(f"{name} of the co-saliency's size {saliency.shape} are needed, got {array.shape}")
    if proposals.dtype != np.bool_:
        raise DataError(f"proposals of type bool are needed, got {proposals.dtype}; compare with > 0 first")
    for name, array in (("co-saliency", saliency), ("responses", responses)):
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise DataError(f"{name}: finite floats are needed, got {array.dtype} or values that are nan or inf")
    return saliency, responses, proposals
