"""MATLAB's bicubic `imresize`, for parity with the authors' numbers only.

Pillow's BICUBIC and torch's `antialias=True` equal it inside the image. On the border rows they leave out the taps
that fall outside, MATLAB mirrors the image there; the difference reaches 10 grey levels.
"""

from __future__ import annotations

import numpy as np


def imresize_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) or (H, W, C) -> (*size) or (*size, C); antialiased when shrinking, no clipping of overshoot.

    uint8 comes back rounded to uint8 as in MATLAB, everything else as float64.
    """
    rows, columns = (_weights(old, new) for old, new in zip(image.shape[:2], size))
    result = np.tensordot(rows, image.astype(np.float64), axes=1)  # (h, W[, C])
    result = np.moveaxis(np.tensordot(columns, result, axes=(1, 1)), 0, 1)  # (w, h[, C]) -> (h, w[, C])
    if image.dtype == np.uint8:
        return np.floor(result + 0.5).clip(0, 255).astype(np.uint8)
    return result


def _weights(old: int, new: int) -> np.ndarray:
    """The (new, old) matrix that resizes one axis."""
    scale = new / old
    shrink = min(scale, 1.0)  # antialiasing widens the kernel by 1 / scale
    centres = (np.arange(new) + 0.5) / scale - 0.5
    taps = int(np.ceil(4 / shrink)) + 2
    cells = np.floor(centres - 2 / shrink).astype(int)[:, None] + np.arange(taps)  # (new, taps)
    weights = _cubic(shrink * (centres[:, None] - cells))
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.mod(cells, 2 * old)
    mirrored = np.where(mirrored < old, mirrored, 2 * old - 1 - mirrored)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], mirrored), weights)
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
