"""The images of a group as the method uses them: read one by one, kept small, read again where full size is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.given import iterate_given, name_of, read_given, read_reduced
from ..files.images import bounded

NETWORK_SIDE = 640  # pixels of the longer side that are kept for the network, which looks at 448 x 448
WORKING_SIDE = 375  # at which proposals are drawn and compared


@dataclass(frozen=True)
class Photo:
    """name: of the file, or image_0001, ...; source: as given; size: (H, W) upright; view: (h, w, 3) uint8 RGB, the
    longer side at most `NETWORK_SIDE`; side: the longer side at which its proposals are compared, 0 = as they are."""

    name: str
    source: Any
    size: tuple[int, int]
    view: np.ndarray
    side: int = WORKING_SIDE

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def working_size(self) -> tuple[int, int]:
        """(h, w) at which proposals are drawn and masks compared; never larger than the image."""
        return self.size if not self.side else bounded(self.size, self.side)

    def working_image(self) -> np.ndarray:
        """The image at `working_size`, (h, w, 3) uint8."""
        if self.working_size == self.size != self.view.shape[:2]:
            return self.full()
        return reduced(self.view, self.working_size)

    def shown(self, side: int) -> np.ndarray:
        """The image for a person, (h, w, 3) uint8, the longer side at most `side`, read again."""
        size = bounded(self.size, side)
        return reduced(read_reduced(self.source, min(size))[0].array, size)

    def full(self) -> np.ndarray:
        """The image, upright, (H, W, 3) uint8, read again."""
        return read_given(self.source).array


def read_photos(images: Iterable[Any], side: int = WORKING_SIDE) -> list[Photo]:
    """Read the images of a group, one after the other; only small views stay in memory.

    Args:
        images: file paths, Pillow images or arrays, as :func:`ssnm.files.images.to_rgb` takes them. Grey, palette, CMYK
            and images with alpha are converted.
        side: of the working size; 0 keeps the image's own.

    Raises:
        DataError, MissingFileError: no image, one that cannot be read, or two of one name.
    """
    photos = []
    for index, source in enumerate(iterate_given(images, "discover")):
        rgb, size = read_reduced(source, NETWORK_SIDE)
        view = reduced(rgb.array, bounded(size, NETWORK_SIDE))
        photos.append(Photo(name_of(source, index), source, size, view, side))
    if not photos:
        raise DataError("a group needs at least 1 image, got none")
    return photos


def reduced(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 at (h, w), bilinear with antialiasing."""
    if array.shape[:2] == size:
        return array
    image = Image.fromarray(np.ascontiguousarray(array))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0))


def enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (h, w) bool at (H, W): bilinear, cut at one half, so that edges are smooth and not stairs."""
    if mask.shape == size:
        return mask
    full = np.zeros(size, dtype=bool)
    if mask.any():  # only where it lies: most of 12 megapixels is background
        (top, bottom), (left, right) = (_span(mask.any(axis=1 - axis), size[axis]) for axis in (0, 1))
        down, across = mask.shape[0] / size[0], mask.shape[1] / size[1]  # cells of the mask per pixel
        part = Image.fromarray(mask.astype(np.uint8) * 255).resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR,
            box=(left * across, top * down, right * across, bottom * down),
        )  # fmt: skip
        full[top:bottom, left:right] = np.asarray(part) > 127
    return full


def _span(covered: np.ndarray, length: int) -> tuple[int, int]:
    """First pixel of `length` and the one after the last that meet the covered cells, (n,) bool; to pixels beyond a
    bilinear filter gives less than one half."""
    cells, count = np.flatnonzero(covered), len(covered)
    return int(cells[0]) * length // count, -(-(int(cells[-1]) + 1) * length // count)
