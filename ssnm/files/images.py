"""Reading images and masks from files: Pillow and numpy, no torch. Used by data, metrics and inference.

One documented rule each for "any image -> RGB" and "any mask file -> boolean mask", so that training,
scoring and prediction can never disagree about what a file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError, MissingFileError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
VOID_INDEX = 255
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class RGBImage:
    """An image as the models want it. ``array``: (H, W, 3) uint8 RGB; ``grey``: the file had no colour."""

    array: np.ndarray
    grey: bool
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.array.shape[0], self.array.shape[1]


def open_image(path: str | Path) -> Image.Image:
    """Open and fully decode an image file.

    Raises:
        MissingFileError: no such file.
        DataError: the file cannot be decoded (truncated, not an image, larger than Pillow's limit).
    """
    path = Path(path)
    try:
        with Image.open(path) as file:
            file.load()
            return file
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such image file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded as an image ({error}); replace or remove the file") from None


def to_rgb(image: Image.Image | np.ndarray, name: str = "") -> RGBImage:
    """Any Pillow image or array -> 8-bit RGB, upright.

    Grey and one-channel images are replicated; palette images are looked up; alpha is composited on
    white; CMYK is converted; 16-bit and float images are scaled to 0..255 (16-bit by 1/257, floats in
    [0,1] by 255, other values by their own range); EXIF rotation is applied.

    Arrays may be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16, bool or float in [0,1].

    Raises:
        DataError: an array of another shape or type, an image without pixels, or one that cannot be decoded.
    """
    if isinstance(image, np.ndarray):
        image = _array_to_pil(image, name)
    if image.width == 0 or image.height == 0:
        raise DataError(f"{name or 'image'}: has no pixels (size {image.width}x{image.height})")
    try:
        image = ImageOps.exif_transpose(image)  # also decodes an image that was only opened so far
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name or 'image'}: cannot be decoded ({error}); give a whole image") from None
    if image.mode in _WIDE_MODES:
        image = Image.fromarray(_wide_to_uint8(np.asarray(image), image.mode))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert(
            "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        )
    grey = image.mode in ("1", "L")
    array = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    return RGBImage(array=array, grey=grey, name=name)


def load_rgb(path: str | Path) -> RGBImage:
    """Read an image file as upright 8-bit RGB; see :func:`to_rgb` for what is converted how."""
    return to_rgb(open_image(path), name=str(path))


def read_labels(path: str | Path) -> np.ndarray:
    """Read a palette mask as its indices (H, W) uint8: VOC's class numbers, 255 = void.

    Raises:
        DataError: the file is a colour image, so its indices are not known.
    """
    image = open_image(path)
    if image.mode not in ("P", "L", "1"):
        raise DataError(f"{path}: a palette or one-channel mask was expected, got mode {image.mode}")
    return np.array(image if image.mode != "1" else image.convert("L"))


def read_binary_mask(path: str | Path) -> np.ndarray:
    """Read a ground-truth file as a boolean mask (H, W). The one rule for all layouts:

    - palette files by index: any index except 0 and 255 (void) is the object, unless 255 is the only
      index besides 0, which is an ordinary 0/255 mask;
    - one-channel files whose largest value is 1 (or bool) are 0/1 masks;
    - everything else (0/255, JPEG-compressed grey, colour) is converted to grey and cut at > 127.
    """
    image = open_image(path)
    if image.mode == "P":
        index = np.array(image)
        foreground = (index != 0) & (index != VOID_INDEX)
        return foreground if foreground.any() else index == VOID_INDEX
    if image.mode in _WIDE_MODES:
        wide = np.asarray(image)
        return wide > (0.5 if wide.max(initial=0) <= 1 else 127 if wide.max() <= 255 else wide.max() / 2)
    grey = np.array(image.convert("RGB").convert("L") if "A" in image.mode else image.convert("L"))
    return grey > 0 if grey.max(initial=0) <= 1 else grey > 127


def _array_to_pil(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.size == 0:
        raise DataError(
            f"{name or 'image'}: an array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) was expected, "
            f"got {array.shape}"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DataError(f"{name or 'image'}: a float array must lie in [0, 1], got "
                            f"[{array.min():g}, {array.max():g}]; divide by 255 or pass uint8")
        array = (array * 255).round().astype(np.uint8)
    elif array.dtype != np.uint8:
        raise DataError(f"{name or 'image'}: uint8, uint16, bool or float in [0, 1] was expected, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _wide_to_uint8(array: np.ndarray, mode: str) -> np.ndarray:
    if mode != "F":
        high = int(array.max(initial=0))
        scale = 1 / 257 if high > 255 else 1.0
        return np.clip(array.astype(np.float64) * scale, 0, 255).round().astype(np.uint8)
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    if 0 <= low and high <= 1:
        return (np.nan_to_num(array) * 255).round().astype(np.uint8)
    return ((np.nan_to_num(array) - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
