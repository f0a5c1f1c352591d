"""A photograph on its way into the network: decoded once, kept as the little that the network and a person look at.

S side of the network's square input. A photograph of 12 megapixels is 36 MB; what is kept of it is 0.4 MB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..files.atomic import image_bytes
from ..files.given import given_image, read_reduced

SHOWN_SIDE = 1600  # pixels along the longer side of a picture for a person
SHOWN_QUALITY = 92
OVERSAMPLING = 2  # a JPEG comes reduced to no less than so many times the network's side: see docs/evaluation.md


@dataclass(frozen=True)
class Photo:
    """inputs: (3, S, S) uint8 RGB, one per side asked for; size: (height, width), upright; grey: it had no colour;
    shown: a JPEG of it for overlays, SHOWN_SIDE or less, of photographs that came as files, else None; object: (H, W)
    bool, its object's pixels where they are known, else None."""

    inputs: tuple[Tensor, ...]
    size: tuple[int, int]
    grey: bool
    shown: bytes | None = None
    object: np.ndarray | None = None

    def with_object(self, mask: np.ndarray | None, name: str) -> Photo:
        """The same with its object's mask.

        Raises:
            DataError: the mask is not of the upright photograph's size.
        """
        if mask is not None and mask.shape != self.size:
            raise DataError(f"reference '{name}': its mask has {mask.shape[0]} rows of {mask.shape[1]} pixels, the "
                            f"upright photograph {self.size[0]} of {self.size[1]}; draw it on the upright photograph")
        return replace(self, object=mask)


def read_photo(image: Any, sides: Sequence[int], keep_shown: bool = False) -> Photo:
    """Read an image of any kind that :func:`ssnm.files.given.given_image` takes.

    Args:
        sides: S of each network input; resizing is bilinear with antialiasing, aspect not kept.
        keep_shown: also keep the picture for overlays.

    Raises:
        DataError, MissingFileError: it cannot be read; the message names it.
    """
    image = given_image(image)
    rgb, size = read_reduced(image, OVERSAMPLING * max(sides))
    picture = Image.fromarray(rgb.array)
    inputs = tuple(_to_tensor(picture.resize((s, s), Image.Resampling.BILINEAR)) for s in sides)
    shown = None
    if keep_shown and isinstance(image, Path):
        shown = image_bytes(shown_picture(picture), "JPEG", quality=SHOWN_QUALITY)
    return Photo(inputs, size, rgb.grey, shown)


def shown_picture(picture: Image.Image) -> Image.Image:
    """The picture itself, or a smaller copy of SHOWN_SIDE."""
    if max(picture.size) <= SHOWN_SIDE:
        return picture
    picture = picture.copy()
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BILINEAR)
    return picture


def decoded(shown: bytes) -> Image.Image:
    """`Photo.shown` as a picture."""
    return Image.open(io.BytesIO(shown))


def _to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (S, S, 3) -> (3, S, S)
