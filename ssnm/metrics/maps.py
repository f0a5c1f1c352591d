"""Reading predicted maps, and bringing map and ground truth to the resolution of a protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..files.masks import read_binary
from .measures import two_values


def read_map(path: str | Path) -> np.ndarray:
    """Read a predicted map (H, W): uint8 0..255 (the probability times 255), or float32 in [0, 1] for wide files.

    Files are read as ground truth is, by :func:`ssnm.files.masks.read_binary`: masks come as 0/255, greys as they are.

    Raises:
        MissingFileError: no such file. DataError: cannot be decoded, or a colour picture.
    """
    return read_binary(path).values


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (H, W), uint8 or float, to size = (height, width); bilinear with antialiasing (Pillow).

    uint8 stays uint8 (rounded), floats become float32 clipped to [0, 1]. A map of that size comes back as it is. A map
    of two values is a mask: it is resized as the truth is and keeps its two values, so that nothing has to be cut anew.
    """
    if values.shape == size:
        return values
    two = two_values(values)
    if two is not None:
        return np.where(resize_truth(values == two[1], size), two[1], two[0]).astype(values.dtype)
    if values.dtype != np.uint8:
        values = np.ascontiguousarray(values, dtype=np.float32)
    resized = np.array(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return resized if resized.dtype == np.uint8 else resized.clip(0, 1)


def resize_truth(truth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a ground truth (H, W) bool to size = (height, width): 0/255 grey, bilinear with antialiasing, > 0.5.

    This is what the release does with its masks (specified as PIL bilinear, then > 0.5).
    """
    if truth.shape == size:
        return truth
    grey = Image.fromarray(truth.astype(np.uint8) * 255)
    return np.array(grey.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > 127
