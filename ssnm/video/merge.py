"""From one probability map per object to one map of ids. numpy and Pillow only.

n objects, h w network size, H W size of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

BACKGROUND = 0.5  # the background's constant probability


def merge_objects(probabilities: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Every pixel goes to the most probable object above one half, else to the background.

    The first maximum wins: a pixel of exactly 0.5 is background, of two equal objects the earlier one gets it.

    Args:
        probabilities: (n, h, w) in [0, 1], n may be 0.
        ids: n ids in 1..255, in the order of the maps.

    Returns:
        (h, w) uint8 ids, 0 background.
    """
    best = np.full(probabilities.shape[1:], BACKGROUND, dtype=np.float32)
    merged = np.zeros(best.shape, np.uint8)
    for probability, i in zip(probabilities, ids, strict=True):
        higher = probability > best
        best[higher], merged[higher] = probability[higher], i
    return merged


def resize_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """ids (h, w) uint8 -> `size` (H, W), by nearest neighbour as Pillow has it."""
    if ids.shape == tuple(size):
        return ids
    return np.array(Image.fromarray(np.ascontiguousarray(ids)).resize(size[::-1], Image.Resampling.NEAREST))


def resize_probabilities(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, h, w) float32 -> (n, *size), bilinear (with antialiasing where that is smaller)."""
    if probabilities.shape[1:] == tuple(size) or len(probabilities) == 0:
        return probabilities.reshape(len(probabilities), *size)
    maps = [Image.fromarray(p).resize(size[::-1], Image.Resampling.BILINEAR) for p in probabilities]
    return np.stack([np.asarray(m, dtype=np.float32) for m in maps])
