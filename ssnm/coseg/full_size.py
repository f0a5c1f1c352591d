"""From a map at network size to the photograph's own: bilinear, in numpy, and its mask without the map itself.

A mask of 12 megapixels is decided by few of them: between four neighbours of the small map that lie on one side of the
threshold so does everything. `cut_at` interpolates only the others, by the same operations in the same order as
`resize_probability`, so that the two agree in every pixel. S T small map, H W photograph.
"""

from __future__ import annotations

import numpy as np

MARGIN = np.float32(1e-5)  # far above what rounding moves an interpolated probability
MOST_OPEN = 0.1  # a share of the bands' columns: above it interpolating every pixel is as fast


def resize_probability(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(S, T) float32 in [0, 1] -> `size` (H, W), bilinear without antialiasing (up-sampling is the rule).

    Pixel centres correspond, as in torch's `interpolate` with `align_corners=False`.
    """
    probability = np.ascontiguousarray(probability, dtype=np.float32)
    if probability.shape == tuple(size):
        return probability
    wide = _columns(probability, size[1])  # (S, W)
    above, below, share = _neighbours(len(wide), size[0])
    full = np.empty(size, np.float32)
    for begin, end in _bands(above):
        full[begin:end] = _between(wide[above[begin]], wide[below[begin]], share[begin:end, None])
    return full


def cut_at(probability: np.ndarray, size: tuple[int, int], threshold: float) -> np.ndarray:
    """``resize_probability(probability, size).astype(float64) > threshold``, pixel for pixel, but sooner."""
    probability = np.ascontiguousarray(probability, dtype=np.float32)
    limit = _float32_below(threshold)
    if probability.shape == tuple(size):
        return probability > limit
    wide = _columns(probability, size[1])
    above, below, share = _neighbours(len(wide), size[0])
    high, low = wide > limit + MARGIN, wide < limit - MARGIN
    first, last = np.array(_bands(above)).T
    i, j, heights = above[first], below[first], last - first
    inside = high[i] & high[j]
    open_ = np.flatnonzero(~(inside | (low[i] & low[j])))
    if len(open_) > MOST_OPEN * inside.size:
        return resize_probability(probability, size) > limit
    mask = np.repeat(inside, heights, axis=0)
    band, column = np.divmod(open_, size[1])
    over, under, row = wide[i[band], column], wide[j[band], column], first[band]
    for k in range(heights.max()):  # the k-th row of every band that has one
        if k >= heights.min():
            has = k < heights[band]
            over, under, row, column, band = (values[has] for values in (over, under, row, column, band))
        mask[row + k, column] = _between(over, under, share[row + k]) > limit
    return mask


def _between(above: np.ndarray, below: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Values between two at `share` of the lower one, each operation rounded by itself."""
    return np.clip(above * (1 - share) + below * share, 0, 1)


def _columns(probability: np.ndarray, width: int) -> np.ndarray:
    """(S, T) -> (S, width)."""
    left, right, share = _neighbours(probability.shape[1], width)
    return probability.take(left, axis=1) * (1 - share) + probability.take(right, axis=1) * share


def _neighbours(count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` places the entries of `count` beside it, and the share of the second, float32 in [0, 1)."""
    place = np.clip((np.arange(size) + 0.5) * (count / size) - 0.5, 0, count - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, count - 1), (place - first).astype(np.float32)


def _bands(first: np.ndarray) -> list[tuple[int, int]]:
    """Runs of rows that lie between the same two."""
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(first)]))


def _float32_below(threshold: float) -> np.float32:
    """The largest float32 that is not above: a float32 exceeds one exactly where it exceeds the other."""
    near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))
