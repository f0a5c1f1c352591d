"""Masks that hold ids: one small number per object and pixel. The one rule for what a file or array of ids says.

0 is background. A picture with only 0 and 255 (or bool) shows one object, id 1; beside other ids 255 is void, which
belongs to no object. Used by propagation, test sets and scoring of videos, so that they can never disagree.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from .images import open_image

VOID = 255
_MOST_GREY_IDS = 32  # a grey picture with more values is a soft mask, not one of ids
_LOSSY = ("JPEG", "MPO", "WEBP")


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


def read_ids(path: str | Path) -> np.ndarray:
    """Read a mask file as ids (H, W) uint8 in 0..254.

    Palette and grey pictures by value; black-and-white pictures of any mode are one object; lossy files (JPEG) are
    cut at one half, since they cannot hold ids.

    Raises:
        MissingFileError: no such file.
        DataError: it cannot be decoded, is coloured, or is soft (grey with more than 32 values).
    """
    image = open_image(path)
    if image.format in _LOSSY:
        return (np.array(image.convert("L")) > 127).astype(np.uint8)
    if image.mode == "P":
        return as_ids(np.array(image), str(path))
    values = _grey_values(image, path)
    shown = np.unique(values)
    if len(shown) > _MOST_GREY_IDS:
        raise DataError(
            f"{path}: a grey picture with {len(shown)} values is a soft mask, not one of ids; cut it at one half first"
        )
    return as_ids(values, str(path))


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


def _grey_values(image: Image.Image, path: str | Path) -> np.ndarray:
    """(H, W) whole numbers of a picture without palette.

    Raises:
        DataError: it is coloured.
    """
    if image.mode in ("1", "L"):
        return np.array(image)
    if image.mode.startswith("I"):
        wide = np.array(image).astype(np.int64)
        return np.where(wide == 65535, VOID, wide) if np.isin(wide, (0, 65535)).all() else wide
    rgb = np.array(image.convert("RGB"))
    grey = rgb[:, :, 0]
    if not (rgb == grey[:, :, None]).all() or not np.isin(grey, (0, VOID)).all():
        raise DataError(
            f"{path}: a palette or one-channel mask is needed, got a {image.mode} picture, whose ids are not known; "
            "save it as a palette PNG, or in black and white for one object"
        )
    return grey
