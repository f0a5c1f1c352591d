"""Contours of many masks at once: the band that the ranking of proposals looks at.

The masks are packed, eight to a byte, so that thousands of them are grown and shrunk by a few passes over bytes.
"""

from __future__ import annotations

import numpy as np

REACH = 2  # pixels on either side of a mask's edge: 5x5 dilation against 5x5 erosion


def contours(masks: np.ndarray, reach: int = REACH) -> np.ndarray:
    """The contour of each mask: cells where its square dilation and its square erosion differ.

    Outside the image a dilation sees 0 and an erosion sees 1, so the image's border itself gives no contour.

    Args:
        masks: (M, H, W) bool.
        reach: half the side of the square, in pixels; 2 is the paper's code.

    Returns:
        (M, H, W) bool.
    """
    if not masks.size:
        return np.zeros(masks.shape, dtype=bool)
    masks = np.asarray(masks, dtype=bool)
    packed = np.zeros((-(-len(masks) // 8), *masks.shape[1:]), np.uint8)
    for bit in range(8):  # eight masks to a byte: passes over whole maps, many times faster than np.packbits(axis=0)
        packed[: len(masks[bit::8])] |= masks[bit::8].view(np.uint8) << bit
    band = _grown(packed, reach) ^ ~_grown(~packed, reach)
    edges = np.empty(masks.shape, np.uint8)
    for bit in range(8):
        np.right_shift(band[: len(masks[bit::8])], bit, out=edges[bit::8])
    return (edges & 1).view(bool)


def _grown(packed: np.ndarray, reach: int) -> np.ndarray:
    """Bitwise OR over a square window, one axis after the other; zeros outside."""
    for axis in (1, 2):
        source, packed = packed, packed.copy()
        length = source.shape[axis]
        for shift in range(1, min(reach, length - 1) + 1):
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(0, length - shift), slice(shift, length)
            packed[tuple(low)] |= source[tuple(high)]
            packed[tuple(high)] |= source[tuple(low)]
    return packed
