"""Reading photographs from files: Pillow and numpy, no torch. Used by data, metrics and inference.

One documented rule for "any image -> RGB", so that training, scoring and prediction can never disagree about what a
file says. Masks: :mod:`ssnm.files.masks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ..errors import DataError, MissingFileError

NARROW_MODES = ("1", "L", "P", "RGB", "LA", "PA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_NO_DATA_TAG = 42113  # GDAL's, in TIFF files: the value that stands for "not measured"
_HUGE = 1e30  # floats beyond are such values too: -3.4e38 is the usual one
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what turns the stored picture upright
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
ASPECT_TOLERANCE = 0.03
FULL_SIZE = "ssnm_full_size"  # in the info of an opened image: (width, height) as stored, before any reduction
AMBIGUOUS = "EXIF turns this photograph and its mask fits either way; the upright picture is taken"


@dataclass(frozen=True)
class RGBImage:
    """An image as the models want it. ``array``: (H, W, 3) uint8 RGB; ``grey``: the file had no colour; ``ambiguous``:
    it was turned upright by its EXIF tag, and a mask of its size may have been drawn before that."""

    array: np.ndarray
    grey: bool
    name: str = ""
    ambiguous: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.array.shape[0], self.array.shape[1]


def open_image(path: str | Path, at_least: int = 0) -> Image.Image:
    """Open and fully decode an image file.

    at_least: a JPEG may come reduced by 2, 4 or 8, in the decoder itself, to no fewer pixels than this along either
        side: half the time of a large photograph, and no loss for a small picture of it. 0: as it is.

    Raises:
        MissingFileError: no such file.
        DataError: the file cannot be decoded (truncated, not an image, larger than Pillow's limit) or not be read.
    """
    path = Path(path)
    try:
        with Image.open(path) as file:
            file.info[FULL_SIZE] = file.size
            if at_least:
                file.draft(None, (at_least, at_least))
            file.load()
            return file
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such image file or folder; check the name") from None
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend that or leave the file out") from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise DataError(
            f"{path}: cannot be decoded as an image ({_said(error)}); replace or remove the file"
        ) from None


def to_rgb(image: Image.Image | np.ndarray, name: str = "", upright: bool = True) -> RGBImage:
    """Any Pillow image or array -> 8-bit RGB, upright.

    Grey and one-channel images are replicated; palette images are looked up; alpha is composited on white; CMYK is
    converted; EXIF rotation is applied, unless `upright` is false. Images of more than 8 bits: integers up to 255 as
    they are, up to 65535 by 1/257, floats in [0, 1] by 255, all others by their own range, from which infinite, huge
    (1e30) and "no data" values (GDAL's tag) are left out; those become black.

    Arrays may be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16, bool or float in [0,1].

    Raises:
        DataError: an array of another shape or type, an image without pixels, or one that cannot be decoded.
    """
    if isinstance(image, np.ndarray):
        image = _array_to_pil(image, name)
    if image.width == 0 or image.height == 0:
        raise DataError(f"{name or 'image'}: has no pixels (size {image.width}x{image.height})")
    try:
        image.load()
        turn = _UPRIGHT.get(orientation(image)) if upright else None
        return _converted(image if turn is None else _turned(image, turn), name)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name or 'image'}: cannot be decoded ({_said(error)}); give a whole image") from None


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 (as stored) where there is none or the block cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return found if found in _UPRIGHT else 1


def is_turned(path: str | Path) -> bool:
    """Whether the EXIF tag of a file turns it; only its head is read. False where that cannot be read."""
    try:
        with Image.open(path) as file:
            return orientation(file) != 1
    except Exception:
        return False


def as_annotated(path: Path, size: Callable[[], tuple[int, int]]) -> Path | RGBImage:
    """A photograph the way round in which it was annotated: the path, which is read upright; where its EXIF tag turns
    it, the picture as :func:`load_rgb` fits it to ``size()``, the (height, width) of its annotations.

    Raises:
        MissingFileError, DataError: it is turned, and cannot be read.
    """
    return load_rgb(path, fits=size()) if is_turned(path) else path


def load_rgb(path: str | Path, fits: tuple[int, int] | None = None) -> RGBImage:
    """Read an image file as upright 8-bit RGB; see :func:`to_rgb` for what is converted how.

    fits: (height, width) of its mask or annotations. Where the EXIF tag turns the picture and only the stored pixels
        have that aspect, they are what was annotated, and are not turned. Where both have it, the upright picture is
        taken, and the result is ``ambiguous``.
    """
    image = open_image(path)
    tag, stored = orientation(image), (image.height, image.width)
    turned = stored[::-1] if tag in _SIDEWAYS else stored
    fit = fits is not None and same_aspect(stored, fits), fits is None or same_aspect(turned, fits)
    rgb = to_rgb(image, name=str(path), upright=fit != (True, False))
    return replace(rgb, ambiguous=tag != 1 and fit == (True, True))


def load_reduced(path: str | Path, at_least: int) -> tuple[RGBImage, tuple[int, int]]:
    """A photograph as :func:`load_rgb` reads it, or smaller, but `at_least` pixels along either side where the file has
    them, and the (height, width) of the upright photograph itself. Only JPEG files come smaller.

    Raises:
        MissingFileError, DataError: as :func:`open_image`.
    """
    image = open_image(path, at_least)
    width, height = image.info[FULL_SIZE]
    size = (width, height) if orientation(image) in _SIDEWAYS else (height, width)
    return to_rgb(image, name=str(path)), size


def bounded(size: Sequence[int], side: int) -> tuple[int, int]:
    """Two sides scaled down, aspect kept, so that the longer one is at most `side`; never enlarged."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) are of one picture: shrunken copies round their sides, by 3 % at most."""
    if first == second:
        return True
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    return abs(ratio - 1) <= ASPECT_TOLERANCE


def _turned(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned = image.transpose(turn)
    turned.info = {k: v for k, v in image.info.items() if k != "exif"}
    return turned


def _converted(image: Image.Image, name: str) -> RGBImage:
    if image.mode not in NARROW_MODES:
        image = Image.fromarray(_wide_to_uint8(np.asarray(image), _no_data(image), name))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert(
            "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        )
    grey = image.mode in ("1", "L")
    array = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    return RGBImage(array=array, grey=grey, name=name)


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


def _no_data(image: Image.Image) -> float | None:
    """The value that a TIFF file declares as "no data"."""
    tags = getattr(image, "tag_v2", {})
    try:
        return float(str(tags[_NO_DATA_TAG]).strip("\0 "))
    except (KeyError, ValueError, TypeError):
        return None


def _wide_to_uint8(array: np.ndarray, no_data: float | None, name: str) -> np.ndarray:
    """Integers or floats of more than 8 bits (H, W) -> uint8, by the rule of :func:`to_rgb`.

    Raises:
        DataError: not one pixel holds a value.
    """
    values = array.astype(np.float64)
    known = np.isfinite(values) & (np.abs(values) < _HUGE)
    if no_data is not None:
        known &= values != no_data
    if not known.any():
        raise DataError(f"{name or 'image'}: no pixel holds a finite value; export it as 8 bits")
    values = np.where(known, values, 0)
    low, high = float(values[known].min()), float(values[known].max())
    if np.issubdtype(array.dtype, np.integer) and 0 <= low and high <= 65535:
        low, high = 0.0, 255.0 if high <= 255 else 65535.0
    elif 0 <= low and high <= 1:
        low, high = 0.0, 1.0
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return np.where(known, scaled, 0).clip(0, 255).round().astype(np.uint8)


def _said(error: Exception) -> str:
    """What a decoder said, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (OSError, ValueError, SyntaxError)) and text else f"{type(error).__name__}: {text}"
