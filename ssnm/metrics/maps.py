"""Reading predicted maps from PNG, and bringing map and ground truth to the resolution of a protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.images import open_image, read_binary_mask

MAX_16_BIT = 65535.0


def read_map(path: str | Path) -> np.ndarray:
    """Read a predicted map (H, W): uint8 0..255 (the probability times 255), or float32 in [0, 1] for 16-bit files.

    - one channel: the values as they are; bilevel files become 0 and 255;
    - colour channels that are all equal: one of them;
    - palette files: looked up if the palette entries in use are grey, otherwise the file is a mask of class indices
      and is read as :func:`ssnm.files.images.read_binary_mask` reads one (index 1 is the object, not grey 38).

    Raises:
        MissingFileError: no such file. DataError: cannot be decoded, or a colour picture.
    """
    image = open_image(path)
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"))
    if image.mode == "P":
        return _palette_map(image, path)
    if image.mode.startswith("I"):  # Pillow's 16-bit modes, and I for what older versions made of 16-bit PNG
        return (np.asarray(image, dtype=np.float64) / MAX_16_BIT).clip(0, 1).astype(np.float32)
    channels = np.array(image.convert("RGB"))
    if (channels != channels[:, :, :1]).any():
        raise DataError(f"{path}: a grey map of the probability is needed, got a colour picture (mode {image.mode})")
    return channels[:, :, 0]


def _palette_map(image: Image.Image, path: str | Path) -> np.ndarray:
    index = np.array(image)
    palette = np.zeros((256, 3), np.uint8)
    entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(entries)] = entries
    used = palette[np.unique(index)]
    if (used == used[:, :1]).all():
        return palette[index, 0]
    return read_binary_mask(path).astype(np.uint8) * 255


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (H, W), uint8 or float, to size = (height, width); bilinear with antialiasing (Pillow).

    uint8 stays uint8 (rounded), floats become float32 clipped to [0, 1]. A map of that size comes back as it is.
    """
    if values.shape == size:
        return values
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
    return resize_map(truth.astype(np.uint8) * 255, size) > 127
