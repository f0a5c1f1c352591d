"""Resizing at load time: the one rule for images, masks and label maps of every training source.

Pillow's filters are used (bilinear with antialiasing; nearest), as in the published protocol, and sizes are
always (height, width). Arrays in, tensors out.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def resize_image(array: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Resize an RGB image, bilinear with antialiasing, aspect not kept.

    Args:
        array: (H0, W0, 3) uint8.
        size: (H, W) wanted.

    Returns:
        (3, H, W) uint8, contiguous.
    """
    image = Image.fromarray(np.ascontiguousarray(array))
    resized = np.array(_resized(image, size, Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()  # (H, W, 3) -> (3, H, W)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Resize a binary mask, bilinear with antialiasing, and cut it at > 0.5: never a grey edge.

    Args:
        mask: (H0, W0) bool.
        size: (H, W) wanted.

    Returns:
        (H, W) bool: the pixels of which the mask covers more than half (in 8-bit steps).
    """
    image = Image.fromarray(np.asarray(mask, dtype=bool).astype(np.uint8) * 255)
    resized = np.array(_resized(image, size, Image.Resampling.BILINEAR))
    return torch.from_numpy(resized > 127)  # 127.5 is one half


def resize_nearest(index: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Resize a map of class numbers by nearest neighbour, so that no number arises that was not there.

    Args:
        index: (H0, W0) uint8.
        size: (H, W) wanted.

    Returns:
        (H, W) uint8.
    """
    image = Image.fromarray(np.ascontiguousarray(index))
    return torch.from_numpy(np.array(_resized(image, size, Image.Resampling.NEAREST)))


def _resized(image: Image.Image, size: tuple[int, int], filter_: Image.Resampling) -> Image.Image:
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), filter_)
