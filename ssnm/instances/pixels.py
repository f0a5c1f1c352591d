"""Images and priors of a group at the size of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from .resize import imresize_bicubic

Resizing = Literal["pillow", "matlab"]


def group_images(images: Sequence[np.ndarray], size: int, resizing: Resizing = "pillow") -> Tensor:
    """(H, W, 3) uint8 RGB of any sizes -> (N, 3, size, size) uint8; the aspect ratio is not kept.

    Raises:
        DataError: an array is not an RGB image.
    """
    for number, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"image {number}: wanted (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    resized = [_resize(image, size, resizing) for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()  # (N, S, S, 3) -> (N, 3, S, S)


def group_priors(priors: Sequence[np.ndarray], size: int, resizing: Resizing = "pillow") -> Tensor:
    """(H, W) in [0, 1] -> (N, 1, size, size) uint8, quantised before they are resized as the authors' files are.

    Raises:
        DataError: an array is no map with values in [0, 1].
    """
    for number, prior in enumerate(priors):
        if prior.ndim != 2 or not np.isfinite(prior).all() or prior.min() < 0 or prior.max() > 1:
            raise DataError(f"prior {number}: wanted a map (H, W) of values in [0, 1], got {prior.shape} "
                            f"{prior.dtype} from {prior.min():.3g} to {prior.max():.3g}")
    grey = [np.floor(prior * 255.0 + 0.5).astype(np.uint8) for prior in priors]
    return torch.from_numpy(np.stack([_resize(g, size, resizing) for g in grey]))[:, None]


def _resize(image: np.ndarray, size: int, resizing: Resizing) -> np.ndarray:
    if resizing == "matlab":
        return imresize_bicubic(image, (size, size))
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
