"""Masks that hold ids, one small number per object and pixel: what an array of them says, and writing them.

0 is background. A picture with only 0 and 255 (or bool) shows one object, id 1; beside other ids 255 is void, which
belongs to no object. Files are read by :func:`ssnm.files.masks.read_ids`, which follows this rule.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from .images import open_image

VOID = 255


def as_ids(mask: np.ndarray, name: str = "mask") -> np.ndarray:
    """An array of ids as it is given -> ids (H, W) uint8 in 0..254, by the rule at the top of this file.

    Args:
        mask: (H, W), bool or whole numbers in 0..255.
        name: what an error calls it.

    Raises:
        DataError: another shape, type or range.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise DataError(f"{name}: ids of shape (H, W) are needed, got {mask.shape}; one mask holds all objects by id")
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8)
    if not np.issubdtype(mask.dtype, np.integer):
        raise DataError(f"{name}: bool or whole numbers are needed, got {mask.dtype}; write mask > 0.5 for a soft mask")
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > VOID:
        raise DataError(f"{name}: ids in 0..254 (255: void) are needed, got {low}..{high}")
    ids = mask.astype(np.uint8)
    void = ids == VOID
    if high == VOID:
        ids[void] = int(bool(np.all(void | (ids == 0))))  # only 0 and 255: 1; beside ids: nothing
    return ids


def ids_in(mask: np.ndarray) -> tuple[int, ...]:
    """The ids that occur in ids (H, W), ascending, without the background."""
    return tuple(int(i) for i in np.unique(mask) if i != 0)


def read_palette(path: str | Path) -> bytes | None:
    """The colours of a palette picture as RGB bytes, None for any other picture."""
    image = open_image(path)
    return bytes(image.getpalette("RGB")) if image.mode == "P" else None


def ids_png(ids: np.ndarray, palette: bytes | None = None) -> bytes:
    """Ids (H, W) uint8 as the bytes of a palette PNG; the same bytes for the same ids and colours.

    palette: RGB bytes, None: the colours of DAVIS and PASCAL VOC.
    """
    image = Image.fromarray(np.asarray(ids, dtype=np.uint8))
    image.putpalette(palette or voc_palette())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def voc_palette() -> bytes:
    """The 256 colours of PASCAL VOC and DAVIS as RGB bytes: bits 0, 3, 6 of the id make red, 1, 4, 7 green, ..."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for bit in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()
